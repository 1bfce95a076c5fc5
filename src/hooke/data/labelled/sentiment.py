"""Sentiment: reviews of food, hotels, films, gadgets and books, one judgement each among neutral facts."""

from __future__ import annotations

from hooke.data.labelled.rows import Dataset, Row
from hooke.data.labelled.tables import both, capital, finished, generator, table, words

# what is judged | a good judgement | a bad one of about the same length
JUDGEMENTS = {
    "food": """
the soup | was rich and full of flavour | was thin and tasted of nothing
the bread | came warm with a crisp crust | came cold with a soggy crust
our waiter | was kind and never in a hurry | was rude and never to be seen
the pasta | was cooked to perfection | was cooked to a dull paste
the salad | was crunchy and nicely dressed | was limp and badly dressed
the dessert | was the highlight of the night | was the low point of the night
the fish | melted on the tongue | smelled as if it had turned
the menu | offers something lovely for everyone | offers nothing tempting for anyone
the coffee | is wonderful and strong | is watery and bitter
the steak | was juicy, a real treat | was leathery, a real chore
the tables | are cosy and spotless | are cramped and sticky
the curry | made us ask for seconds | made us push the plate away
the prices | are a pleasant surprise | are a nasty surprise
the cook | clearly loves what he does | clearly hates what he does
the pancakes | were fluffy and golden | were rubbery and burnt
the wine | went beautifully with the meal | spoiled what was left of the meal
""",
    "hotels": """
the room | was bright and spotless | was gloomy and filthy
the bed | was heavenly, we slept like babies | was lumpy, we hardly slept at all
the staff | went out of their way for us | rolled their eyes at us
the view | takes your breath away | shows a wall and some bins
the breakfast | had plenty of fresh fruit | had nothing but stale toast
the bathroom | sparkled and had soft towels | smelled and had mouldy tiles
the pool | was clean, the children adored it | was slimy, the children avoided it
check-in | was quick and friendly | was endless and unfriendly
the location | could hardly be better | could hardly be worse
the garden | is a peaceful delight | is a noisy dump
the heating | kept us snug all night | kept us shivering all night
the lobby | is elegant and inviting | is shabby and depressing
the lift | was fast and silent | was broken and scary
the bar | mixes superb drinks | serves dreadful drinks
the walls | let us rest in perfect quiet | let us hear each awful snore
the manager | solved our problem with charm | ignored our problem with scorn
""",
    "films": """
the plot | keeps you gripped to the end | keeps you yawning to the end
the lead actor | gives a touching performance | gives a wooden performance
the music | is gorgeous and lifts each scene | is irritating and drowns each scene
the ending | was moving and clever | was silly and predictable
the dialogue | is witty and full of life | is clumsy and full of clichés
the camera work | is stunning throughout | is nauseating throughout
the jokes | had us in tears of laughter | fell flat one after another
the villain | is fascinating to watch | is tedious to watch
the first hour | flies by like nothing | drags on like a tax form
the costumes | are a feast for the eyes | are an insult to the eyes
the director | has made a masterpiece | has made a mess
the effects | look magical even now | look laughable even now
the story | stayed with me for days, in a good way | bored me from the start, in every way
the supporting cast | shines in each minute | stumbles through each minute
the pace | is just right for a thriller | is hopeless for a thriller
the remake | is a joy from start to end | is a pain from start to end
""",
    "gadgets": """
the battery | lasts for ages, I am delighted | dies in no time, I am furious
the screen | is crisp and a pleasure to read | is blurry and a strain to read
the buttons | feel solid and well made | feel flimsy and badly made
the speaker | sounds rich and warm | sounds tinny and harsh
the app | works like a charm | crashes like clockwork
the strap | is comfortable and pretty | is scratchy and ugly
the camera | takes brilliant shots at night | takes useless shots at night
the set-up | was effortless, five minutes | was a nightmare, five hours
the support team | fixed it with a smile | fobbed me off with a shrug
the keyboard | is a dream to type on | is a torment to type on
the case | protects well and looks smart | cracked soon and looks cheap
the headphones | block all noise, marvellous | let in all noise, maddening
the manual | is clear and helpful | is muddled and useless
the charger | is reliable and neat | is dangerous and wobbly
the printer | has been a loyal friend | has been a constant pest
the kettle | boils fast, worth each penny | leaks often, a waste of money
""",
    "books": """
the heroine | is vivid and easy to love | is bland and hard to bear
the prose | sings on each page | limps on each page
the chapters | are gripping and well shaped | are rambling and ill shaped
the author | writes with grace and warmth | writes with smugness and malice
the translation | is fluent, a triumph | is stilted, a disgrace
the mystery | is ingenious and thrilling | is transparent and feeble
the illustrations | are charming beyond words | are hideous beyond words
the recipes in it | work wonderfully at home | fail miserably at home
the setting | comes alive with rich detail | stays dead despite long detail
the last page | left me happy and thankful | left me cheated and annoyed
the essays | are sharp and refreshing | are stale and pompous
the poems | are tender and unforgettable | are sugary and forgettable
the research | is admirable and thorough | is sloppy and shallow
the love story | feels true and glorious | feels fake and embarrassing
the humour | is delicious and sly | is crude and tiresome
the sequel | exceeds even the first volume | betrays even the first volume
""",
}
NEUTRAL = {
    "food": words("We went on a Tuesday., It is near the station., There were six of us., We had booked for eight."),
    "hotels": words("We stayed for two nights., Our room was number nine., It was in March., We came by train."),
    "films": words("I saw it with my brother., It runs for two hours., I saw it at the Odeon., It is set in Lima."),
    "gadgets": words("I bought it in June., Mine is the grey one., I use it at work., It came in a brown box."),
    "books": words("I read it on the train., It has 300 pages., It was a birthday present., It is set in Wales."),
}
OPENERS = ("", "", "I must say ", "In my view ", "For me ", "All in all ")
# the negated judgement: nobody could say that (good) → bad, and the reverse
DENIALS = (
    "Nobody could claim that {what} {judged}.",
    "It is simply not the case that {what} {judged}.",
    "I had read that {what} {judged}, and the opposite is the case.",
    "Whoever wrote that {what} {judged} must have been somewhere else.",
)
# the mixed judgement: the second half decides
TURNS = (
    "True, {less} {weak}, but {what} {judged}, and that is what counts for me.",
    "Although {less} {weak}, {what} {judged}, and this decides it.",
    "In spite of the fact that {less} {weak}, my verdict is that {what} {judged}.",
)
SHIFTS = ("books", "gadgets", "negated", "mixed")


def sentiment(seed: int = 0) -> Dataset:
    """Reviews with one judgement (label 1: favourable) between neutral facts, in pairs.

    Held out: two subjects, judgements under a denial (the words of the other label), and two judgements of which the
    later one decides. A bag of words is good within a subject, and below chance on the denials.
    """
    rng = generator("sentiment", seed)
    rows: list[Row] = []
    for domain, text in JUDGEMENTS.items():
        judged = table(text)
        for number, (what, good, bad) in enumerate(judged):
            group = f"{domain}:{number}"
            form = ("negated" if number % 2 else "mixed") if domain in SHIFTS[:2] or number >= 12 else ""
            for drawing in range(4):
                facts = rng.sample(NEUTRAL[domain], 2)
                opener, before = rng.choice(OPENERS), rng.random() < 0.5
                less = judged[(number + 1 + drawing) % len(judged)]
                if form and (domain not in SHIFTS or drawing < 2):
                    frame = rng.choice(DENIALS if form == "negated" else TURNS)
                    texts = turned(frame, (what, good, bad), less)
                else:
                    texts = [capital(f"{opener}{what} {verdict}.") for verdict in (bad, good)]
                texts = [f"{facts[0]} {said}" if before else f"{said} {facts[1]}" for said in texts]
                topic = domain if domain in SHIFTS or not form else form
                rows += both(texts[0], texts[1], group, topic, drawing)
    about = "Reviews of food, hotels, films, gadgets and books; label 1: the judgement is favourable"
    return finished("sentiment", about, ("unfavourable", "favourable"), rows, SHIFTS)


def turned(frame: str, judgement: tuple[str, ...], less: tuple[str, ...]) -> list[str]:
    """The unfavourable and the favourable text of a denial or of a mixed judgement, in this order."""
    what, good, bad = judgement
    if "{less}" not in frame:
        return [capital(frame.format(what=what, judged=said)) for said in (good, bad)]
    return [
        capital(frame.format(what=what, judged=said, less=less[0], weak=weak))
        for said, weak in ((bad, less[1]), (good, less[2]))
    ]
