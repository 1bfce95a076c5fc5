"""What a model is asked when its behaviour is looked into: questions, facts, strings that may be triggers."""
