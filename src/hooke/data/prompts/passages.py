"""Neutral passages: what activations look like on text that has nothing to do with the prompt.

They are the baseline of scores and ablations when nobody gives a counterfactual: several passages of
the prompt's length, used position by position and averaged over their effects. (One global mean
instead would push a model off its distribution and make ablation meaningless.)
"""

PASSAGES = (
    "The harbour was quiet in the early morning, and only two boats had left before the fog came in. An old man "
    "sat on the wall with a net across his knees, mending the holes that the rocks had made. Gulls walked up and "
    "down beside him and waited for something to fall.",
    "Most bridges of that kind are built from both banks at once, so that the two halves meet over the middle of "
    "the river. The engineers check the level every day, because heat makes the steel longer and a cold night "
    "makes it shorter again by almost the width of a hand.",
    "To make the soup, cut the onions as thinly as you can and let them soften slowly in butter. Add flour, then "
    "broth, and leave the pot alone for half an hour. Salt should come last, since the broth may already hold "
    "more than enough of it for six people.",
    "Our train was late by nearly an hour, which nobody on the platform seemed to find strange. A woman with a "
    "green umbrella read aloud from a newspaper to her friend. Somewhere behind the station a band was playing "
    "the same few bars over and over.",
    "In the second week of the experiment the plants under blue light had grown faster than the others, although "
    "their leaves were smaller. We repeated the measurement with fresh soil and a new lamp, and the difference "
    "was still there, if a little weaker than before.",
    "When the committee met again in spring, most of its members had read the report and few had liked it. They "
    "agreed to ask for new figures, to wait until the summer, and to say nothing to the press. The vote took less "
    "than a minute and the lunch that followed took three hours.",
)
