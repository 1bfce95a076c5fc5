"""The verbs, one public function each, and the parts they share.

trace/       which parts of the model produced the next token, as a tested graph
intervene    switch neurons of a trace off, or double them, beside random groups
lens         what each layer would say next
patch/       put values of one run into another; path_patch: into one reader alone
attribute/   estimate every patch from a few passes, and score the estimates
circuit/     the edges that carry what a model does for a task
tasks        what circuits are looked for in, and whether a model can do it
harvest      keep what a model computes over a text
train/       sparse dictionaries of it
evaluate/    how good a dictionary is, beside what it has to beat
catalogue/   what every feature fires on and does, with a score on every label
find_features   look features up in a catalogue, by what they are said to be or what they do
visualise/   prompts that make a feature fire most, at every price in likeliness
probe/       fit, judge and explain detectors of a concept
doctor       does Hooke work here

computation_graph, edge_runs, edge_cuts   nodes and edges between heads and MLPs, and runs in which edges are cut
metric, metrics, objective, quantities, ranking   what is measured, by which name
asking, content, variants, splits, kept, progress, phrases   prompts, counterfactuals, splits, folders of work, words
"""
