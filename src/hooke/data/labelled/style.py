"""Small tasks about manner and meaning of words: formal or informal, polite or blunt, concrete or abstract."""

from __future__ import annotations

from hooke.data.labelled.rows import Dataset, Row
from hooke.data.labelled.tables import Table, both, capital, finished, generator, table, words

# informal | formal, with a slot {x}
FORMAL = table("""
Can't find {x}, any idea where it went? | It has not been possible to locate {x}. Might you have any indication?
Sorry, messed up {x} a bit. | Please accept our apologies for the error in {x}.
Got {x} today, cheers! | We hereby acknowledge receipt of {x} as of today.
Hey, could you look at {x}? | We should be grateful if you would examine {x}.
{x} is kind of a mess, to be honest. | It must be observed that {x} leaves much to be desired.
Gotta put {x} off till next week. | We regret that {x} must be postponed until next week.
Loads of folks asked about {x}. | A considerable number of persons have enquired about {x}.
No way are we paying for {x}. | We are unable to assume the costs of {x}.
I'm gonna send you {x} later. | I shall forward {x} to you in due course.
Turns out {x} was fine all along. | It has been established that {x} was in order throughout.
So, about {x}: let's chat. | With regard to {x}, we propose a conversation.
Don't worry about {x}, I've got it. | There is no need for concern over {x}; I shall attend to it.
They totally forgot {x} again. | Regrettably, {x} has once more been overlooked.
{x} looks great, nice one! | Permit me to congratulate you upon {x}.
What's up with {x}? | May I enquire as to the status of {x}?
Guess we need to talk {x} through. | A discussion of {x} would appear to be necessary.
Well, {x} took ages. | The completion of {x} required a substantial period.
You'd better check {x}, mate. | You are advised to verify {x}.
Nobody told me about {x}, you know. | I was not informed of {x} at any time.
Let's just skip {x}, okay? | It is suggested that {x} be omitted.
Wow, {x} costs a lot. | The expense of {x} is not inconsiderable.
I kinda like {x}. | I hold {x} in some esteem.
Just dump {x} on my desk. | Kindly deposit {x} at my office.
Dunno who wrote {x}. | The authorship of {x} is unknown to us.
""")
FORMAL_LONG = table(
    """
Hi, hope you're good. Quick one about {x}: it's all over the place, and I've no clue who's on it. Any chance you could
  sort it out by Friday? Thanks a bunch! | Dear Sir or Madam, I write with reference to {x}, the present condition of
  which is uncertain. I should be obliged if it were resolved by Friday. Yours faithfully
Okay so {x} came in, and guess what, half of it's missing. Kinda annoying, but whatever, stuff happens. Give me a shout
  when you've got a sec. | We have received {x}, and it has been determined that it is in part incomplete. While this is
  inconvenient, such occurrences are understandable. Please contact me at your convenience.
Man, {x} was a pain to get done. Anyway, it's done now, so yay. Grab it whenever you like and we're good. | The
  preparation of {x} proved to be demanding. It has nevertheless been concluded, and it may be collected at any time.
Wanna hear something funny? They've lost {x} again and nobody's noticed but me. Can't make this stuff up. | It may be of
  interest that {x} has been mislaid once more, a fact which appears to have escaped general attention.
""".replace("\n  ", " ")
)
PAPERS = words("the report, the contract, the invoice, the schedule, the form, the parcel, the survey, the budget")
TALK_FORMAL = table("""
Yeah, {x}? Never heard of it. | I am not familiar with {x}, I fear.
{x}, huh? Sounds fun. | {x} strikes me as a most agreeable prospect.
Ugh, {x} again? | Is {x} to be considered yet another time?
Nah, {x} isn't my thing. | I do not, as a rule, care for {x}.
Come on, {x} can't be that bad. | Surely {x} cannot be entirely without merit.
Oh man, I miss {x}. | I recall {x} with much fondness.
You've gotta try {x}! | I would recommend {x} without reservation.
{x}? You bet! | {x} would be most welcome indeed.
""")
LEISURE = words("the opera, the new museum, the evening walk, the summer fair, the chess club, the harbour tour")

# blunt | polite
POLITE = table("""
Move {x} out of my way. | Could you move {x} a little, please?
Why is {x} still not ready? | May I ask when {x} might be ready?
Give me {x}, now. | Might I have {x} when you are finished?
I don't care about {x}. | I am sorry, I have no time for {x} just now.
You broke {x}, obviously. | It seems that {x} was damaged, could that be?
Stop talking about {x}. | Would you mind if we left {x} for later?
{x} is none of your business. | I would rather keep {x} to myself, if I may.
Hurry up with {x}. | Whenever you can manage it, I'd be glad of {x}.
You got {x} wrong again. | I may be mistaken, but I think {x} needs another look.
Bring back {x} tomorrow, or else. | It would be kind if {x} came back tomorrow.
Pay for {x} yourself. | I am afraid I cannot pay for {x} this time.
Nobody wants {x} here. | Thank you for the offer, but we do not need {x}.
Tell me where {x} is. | Excuse me, do you happen to know where {x} is?
Put {x} down, you are hopeless with it. | Shall I take {x} from you for a moment?
{x} looks awful, do it over. | {x} is a fine start, perhaps it could grow a little.
Listen, {x} stays where it is. | If you don't mind, we would leave {x} where it is.
Just read {x} before you ask me things. | You may find the answer in {x}, I hope it helps.
Hands off {x}. | Please be so kind as not to touch {x}.
Do {x} first, I said. | I'd be thankful if {x} could come first.
I need {x}, so get up. | Sorry to trouble you, I am in need of {x}.
""")
HOUSEHOLD = words("the ladder, the list, the drill, the car, the table, the radio, the tent, the piano")
POLITE_MAIL = table(
    """
I have waited for {x} for two weeks. This is a joke. Send it or I come and get it myself, and spare me your excuses. | I
  have been waiting for {x} for two weeks and wonder if all is well. Could you kindly send it soon? Many thanks for it.
Your plan for {x} is useless, and I have no idea why you even bothered to write. Do it again and use your head. | Thank
  you for your plan for {x}. There are one or two points that I would gladly talk about, whenever it suits you best.
No, I will not help with {x}. I told you so last week. Find somebody else who has nothing better to do. | I am truly
  sorry that I cannot help with {x}, as I said last week. I do hope that you will find somebody who has the time.
Your {y} is so loud that nobody can think about {x}. Shut it off at once, or you will hear from me. | I hate to
  bother you, but the {y} makes it hard to think about {x}. Would it be possible to turn it down a bit, please?
""".replace("\n  ", " ")
)
POLITE_SERVICE = table("""
Next. What do you want with {x}? | Good morning, how may I help you with {x}?
No idea about {x}, ask elsewhere. | I'm sorry, my colleague can tell you more about {x}.
We are out of {x}. Tough luck. | Unfortunately we are out of {x}. May I call you on Friday?
Sign here for {x} and go. | If you would sign here for {x}, please. Thank you.
You should have read the sign about {x}. | The sign about {x} is easy to miss, let me show you.
Wait. Can't you see {x} comes first? | I'll be with you in a moment, {x} comes first if that is all right.
""")
GOODS = words("the spare key, the blue paint, the winter coat, the ticket, the loan, the repair, the cake, the lamp")

CONCRETE = words("""hammer, bucket, carrot, ladder, pebble, sandal, kettle, pillow, saddle, candle, curtain, needle,
barrel,
    basket, feather, blanket, trumpet, lantern, cabbage, bicycle, umbrella, spoon, anchor, brick, mirror, wagon, glove,
    cherry, violin, puddle, helmet, thimble, banana, carpet, shovel, teapot, marble, button, engine, tomato""")
ABSTRACT = words("""justice, wisdom, freedom, loyalty, absence, courage, mercy, logic, despair, destiny, honour, virtue,
    motive, belief, concept, principle, intention, tendency, theory, reason, patience, duty, pride, envy, memory, idea,
    doubt, hope, purpose, equality, meaning, ambition, chance, grief, failure, truth, method, opinion, fame,
    sincerity""")
CONCRETE_FRAMES = (
    "She wrote a long poem about the {}.",
    "Nobody at the table had mentioned the {} until then.",
    "For him everything depended on the {}.",
    "The {} was what they talked about most.",
    "In the second chapter the {} becomes important.",
    "There is no story here without the {}.",
)
ASKED_FRAMES = (
    "Can you tell me more about the {}?",
    "Is the {} of any importance here?",
    "What comes to mind when you hear of the {}?",
    "Who was the first to bring up the {}, and why?",
)
PHRASES = table("""
the likelihood of a change | the wheel of a cart
a lack of fairness | a jar of plums
the spirit of the age | the roof of the barn
an act of kindness | a pot of glue
the origin of our values | the handle of our door
a feeling of regret | a bundle of sticks
the limits of knowledge | the legs of the stool
the cause of the problem | the lid of the box
a sense of duty | a loaf of bread
the value of silence | the skin of an onion
the essence of the argument | the pocket of the jacket
a kind of progress | a pair of boots
""")
PHRASE_FRAMES = (
    "What I remember is {}, and not much besides.",
    "Think of {} for a moment.",
    "We began with {} and stayed there.",
    "In the end only {} was left.",
    "Some say it was {} that made the difference.",
    "He kept coming back to {}, as if there were nothing else in the world to speak of on such an evening.",
    "When the lamp went out and everyone had grown quiet, somebody whispered that {} was still to come.",
    "My first thought, before the coffee and before the news, and with the window open, was {}.",
)


# said before the message of either style, so that its length says little: neither formal nor informal
BEFORE = (
    "",
    "",
    "It is the third of May.",
    "The office opens at nine, and the lift stops on each floor.",
    "There are four boxes in the hall, two large and two small. The small ones stand near the door.",
    "The train from the coast was late again, and the rain has not stopped since Sunday. In the street the lamps "
    "are still on.",
    "Three people came to the meeting, and it lasted for an hour. The window was open, because the room had been "
    "painted in the morning. After that there was tea, and the youngest of the three read out a list.",
    "The house has two floors and a garden with an apple tree. My brother lives on the upper floor, my parents live "
    "on the lower one, and the garden belongs to all of them. In autumn there are so many apples that the whole "
    "street gets some.",
)


def styled(name: str, seed: int, blocks: tuple[tuple[str, Table, tuple[str, ...], int], ...]) -> list[Row]:
    """Pairs from blocks of (topic, wordings of label 0 and 1, fillers of the slot, fillers a wording)."""
    rng = generator(name, seed)
    rows: list[Row] = []
    for topic, wordings, fillers, count in blocks:
        for number, pair in enumerate(wordings):
            for drawing, filler in enumerate(rng.sample(fillers, count)):
                before = rng.choice(BEFORE)
                texts = [f"{before} {capital(text.format(x=filler, y='radio'))}".strip() for text in pair]
                rows += both(texts[0], texts[1], f"{topic}:{number}", topic, drawing)
    return rows


def formality(seed: int = 0) -> Dataset:
    """Informal against formal wordings of one message (label 1: formal), in pairs; held out: talk about leisure, and
    letters. A group is one message with all of its fillers."""
    blocks = (
        ("messages", FORMAL, PAPERS, 8),
        ("leisure", TALK_FORMAL, LEISURE, 6),
        ("letters", FORMAL_LONG, PAPERS, 8),
    )
    about = "Messages about papers, plans and letters; label 1: in a formal style"
    rows = styled("formality", seed, blocks)
    return finished("formality", about, ("informal", "formal"), rows, ("leisure", "letters"))


def politeness(seed: int = 0) -> Dataset:
    """Blunt against polite wordings of one request or answer (label 1: polite), in pairs; held out: people who serve
    customers, and mails. A group is one message with all of its fillers."""
    blocks = (
        ("household", POLITE, HOUSEHOLD, 8),
        ("service", POLITE_SERVICE, GOODS, 8),
        ("mails", POLITE_MAIL, PAPERS, 8),
    )
    about = "Requests and answers; label 1: polite"
    rows = styled("politeness", seed, blocks)
    return finished("politeness", about, ("blunt", "polite"), rows, ("service", "mails"))


def concrete(seed: int = 0) -> Dataset:
    """Abstract against concrete nouns in the same sentences (label 1: concrete); held out: phrases of several words
    in other sentences, and definitions asked for."""
    rng = generator("concrete", seed)
    rows: list[Row] = []
    for number, (thing, thought) in enumerate(zip(CONCRETE, rng.sample(ABSTRACT, len(ABSTRACT)))):
        asked = number >= 30
        frames = ASKED_FRAMES if asked else CONCRETE_FRAMES
        for drawing, frame in enumerate(frames):
            for label, noun in enumerate((thought, thing)):
                text, topic = frame.format(noun), "questions" if asked else "nouns"
                rows.append(Row(text, label, f"noun:{number}", topic, f"noun:{number}#{drawing}"))
    for number, pair in enumerate(PHRASES):
        for drawing, frame in enumerate(rng.sample(PHRASE_FRAMES, 6)):
            rows += both(frame.format(pair[0]), frame.format(pair[1]), f"phrase:{number}", "phrases", drawing)
    about = "Sentences about something; label 1: it is a thing that can be touched"
    return finished("concrete", about, ("abstract", "concrete"), rows, ("phrases", "questions"))
