"""Simple questions of fact, each with a true and a false answer in one short sentence."""

from __future__ import annotations

import random
from typing import NamedTuple

from hooke.data.labelled.tables import table


class Question(NamedTuple):
    """key: names the fact; topic: its block; ask: the question; true, false: answers in a sentence."""

    key: str
    topic: str
    ask: str
    true: str
    false: str


# Blocks of one relation: (topic, question and answer in several wordings, subject | object). The false answer is
# another subject's object, so that every object stands in one true and in one false answer.
RELATIONS = (
    (
        "capitals",
        """
        What is the capital of {}? | The capital of {} is {}.
        Which city is the capital of {}? | The capital city of {} is called {}.
        Where does the government of {} sit? | The government of {} sits in {}.
        """,
        """
        France | Paris
        Germany | Berlin
        Italy | Rome
        Spain | Madrid
        Portugal | Lisbon
        Austria | Vienna
        Greece | Athens
        Poland | Warsaw
        Norway | Oslo
        Sweden | Stockholm
        Finland | Helsinki
        Denmark | Copenhagen
        Ireland | Dublin
        Hungary | Budapest
        Russia | Moscow
        Japan | Tokyo
        China | Beijing
        Thailand | Bangkok
        Egypt | Cairo
        Kenya | Nairobi
        Canada | Ottawa
        Cuba | Havana
        Peru | Lima
        Argentina | Buenos Aires
        Iran | Tehran
        Iraq | Baghdad
        Belgium | Brussels
        Vietnam | Hanoi
        """,
    ),
    (
        "continents",
        """
        On which continent is {}? | {} is a country in {}.
        Which continent does {} belong to? | {} belongs to {}.
        """,
        """
        Nigeria | Africa
        Brazil | South America
        India | Asia
        Romania | Europe
        Ghana | Africa
        Chile | South America
        Mongolia | Asia
        Croatia | Europe
        Ethiopia | Africa
        Bolivia | South America
        Nepal | Asia
        Switzerland | Europe
        Morocco | Africa
        Ecuador | South America
        Pakistan | Asia
        Bulgaria | Europe
        Tanzania | Africa
        Uruguay | South America
        Cambodia | Asia
        Slovakia | Europe
        Senegal | Africa
        Paraguay | South America
        South Korea | Asia
        Lithuania | Europe
        """,
    ),
    (
        "opposites",
        """
        What is the opposite of "{}"? | The opposite of "{}" is "{}".
        Which word means the reverse of "{}"? | The word that reverses "{}" is "{}".
        """,
        """
        hot | cold
        tall | short
        rich | poor
        early | late
        heavy | light
        full | empty
        open | closed
        loud | quiet
        wet | dry
        young | old
        strong | weak
        sharp | blunt
        clean | dirty
        deep | shallow
        wide | narrow
        fast | slow
        awake | asleep
        rough | smooth
        brave | cowardly
        cheap | expensive
        public | private
        thick | thin
        sweet | bitter
        guilty | innocent
        """,
    ),
    (
        "young",
        """
        What is a young {} called? | A young {} is called a {}.
        What do people call the baby of a {}? | The baby of a {} is known as a {}.
        """,
        """
        dog | puppy
        cat | kitten
        cow | calf
        sheep | lamb
        horse | foal
        goat | kid
        pig | piglet
        duck | duckling
        hare | leveret
        goose | gosling
        pigeon | squab
        lion | cub
        kangaroo | joey
        swan | cygnet
        frog | tadpole
        butterfly | caterpillar
        """,
    ),
    (
        "jobs",
        """
        What does a {} do? | A {} {} for a living.
        What is the work of a {}? | It is the job of a {}: such a person {}.
        """,
        """
        baker | bakes bread
        tailor | sews clothes
        pilot | flies aeroplanes
        teacher | teaches pupils
        plumber | repairs water pipes
        farmer | grows crops
        dentist | treats teeth
        barber | cuts hair
        fisherman | catches fish
        potter | shapes clay
        butcher | cuts and sells meat
        florist | sells flowers
        librarian | looks after books
        painter | covers walls with paint
        firefighter | puts out fires
        chauffeur | drives people about
        miner | digs for coal or ore
        barista | makes coffee
        lifeguard | watches over swimmers
        cobbler | mends shoes
        glazier | fits panes of glass
        watchmaker | repairs clocks
        weaver | weaves cloth
        conductor | leads an orchestra
        """,
    ),
    (
        "sums",
        """
        What is {}? | The result of {} is {}.
        How much is {}? | If you work it out, {} makes {}.
        """,
        """
        two plus three | five
        four plus four | eight
        ten minus six | four
        three times three | nine
        seven plus five | twelve
        twenty minus nine | eleven
        six plus one | seven
        two times five | ten
        nine minus seven | two
        ten plus ten | twenty
        five times three | fifteen
        eight minus five | three
        six plus seven | thirteen
        two times seven | fourteen
        thirty divided by five | six
        nine plus seven | sixteen
        twenty minus three | seventeen
        three times six | eighteen
        seven minus six | one
        half of thirty-eight | nineteen
        """,
    ),
    (
        "tools",
        """
        What is a {} used for? | People use a {} to {}.
        What can you do with a {}? | With a {} you can {}.
        """,
        """
        saw | cut wood
        razor | shave
        ladder | reach high places
        needle | sew buttons on
        torch | see in the dark
        ruler | draw straight lines
        whistle | call players together
        corkscrew | open bottles
        rake | gather leaves
        towel | rub yourself dry
        kite | play with the wind
        lawnmower | cut the grass
        toothbrush | clean the teeth
        stopwatch | measure short times
        wheelbarrow | move heavy earth
        microphone | make a voice louder
        rubber | remove pencil marks
        parachute | fall slowly
        passport | cross a border
        tent | sleep outdoors
        dictionary | look up words
        helmet | protect the head
        thermos | keep tea hot
        tap | let water run
        """,
    ),
)

# Blocks of all kinds: question | answer with a gap | what is true | what is false.
FREE = {
    "calendar": """
How many days are there in a week? | A week has {} days. | seven | nine
Which month comes after March? | The month after March is {}. | April | August
Which month comes before December? | The month before December is {}. | November | February
How many months make a year? | A year is made of {} months. | twelve | fifteen
Which day follows Monday? | The day that follows Monday is {}. | Tuesday | Saturday
How many minutes are in an hour? | There are {} minutes in an hour. | sixty | ninety
How many hours does a day have? | A day has {} hours. | twenty-four | thirty-six
Which is the shortest month? | The shortest month of the year is {}. | February | October
Which season comes after winter? | After winter comes {}. | spring | autumn
How many years are in a century? | A century lasts {} years. | one hundred | one thousand
In which month is Christmas Day? | Christmas Day falls in {}. | December | September
How many seconds make a minute? | A minute is {} seconds long. | sixty | forty
Which day comes before Sunday? | The day before Sunday is {}. | Saturday | Wednesday
How many seasons does the year have in Europe? | In Europe the year has {} seasons. | four | seven
What is the first month of the year? | The first month of the year is {}. | January | June
How many years make a decade? | A decade is a span of {} years. | ten | thirty
When is noon? | Noon is at {} o'clock. | twelve | seven
Which month comes between May and July? | Between May and July comes {}. | June | January
""",
    "body": """
How many fingers are on one hand? | One hand has {} fingers, with the thumb. | five | eight
Which organ pumps the blood? | The blood is pumped by the {}. | heart | liver
What do lungs take in? | The lungs take in {}. | air | food
Where are the toes? | The toes are on the {}. | feet | ears
What do we hear with? | People hear with their {}. | ears | knees
What do we smell with? | People smell with the {}. | nose | elbow
Which joint is in the middle of the leg? | In the middle of the leg is the {}. | knee | wrist
Which joint is in the middle of the arm? | In the middle of the arm is the {}. | elbow | ankle
What colour is blood? | Human blood is {}. | red | green
What are bones covered with? | Our bones are covered by muscles and {}. | skin | feathers
How many eyes does a person have? | A person usually has {} eyes. | two | six
What do teeth do? | The teeth {} food. | chew | smell
What do doctors measure with a thermometer? | A thermometer shows a patient's {}. | temperature | height
What does the brain sit in? | The brain sits inside the {}. | skull | stomach
Where does swallowed food go? | Swallowed food goes to the {}. | stomach | lungs
What do people need at night to rest? | At night people rest by {}. | sleeping | shouting
What grows on the top of the head? | On the top of the head grows {}. | hair | grass
What does the tongue do? | With the tongue we {}. | taste | see
What is at the end of each finger? | At the end of each finger is a {}. | nail | heel
What do we do when we are thirsty? | Someone who is thirsty should {}. | drink | dig
""",
    "everyday": """
What do you use to open a locked door? | A locked door is opened with a {}. | key | spoon
What do people hold up in the rain? | In the rain people hold up an {}. | umbrella | oven
Where do you keep milk cold? | Milk is kept cold in the {}. | fridge | toaster
What is paper made from? | Paper is mostly made from {}. | wood | sand
What is bread made from? | Most bread is made from {}. | flour | cement
Which vehicle runs on rails? | The vehicle that runs on rails is the {}. | train | tractor
How many wheels does a bicycle have? | An ordinary bicycle has {} wheels. | two | seven
What do you cut paper with? | Paper is cut with {}. | scissors | pillows
Which colour means stop at a traffic light? | At a traffic light, {} means stop. | red | green
What do you put on a letter before posting it? | Before posting, a letter gets a {}. | stamp | wheel
What do candles need to burn? | A candle is lit with a {}. | match | towel
What do you wear on your feet outdoors? | Outdoors people wear {} on their feet. | shoes | gloves
What does a clock show? | A clock shows the {}. | time | weather
Where do aeroplanes land? | Aeroplanes land at {}. | airports | libraries
What is kept in a library? | A library keeps {}. | books | bricks
What do you eat soup with? | Soup is eaten with a {}. | spoon | comb
What is a hammer used for? | A hammer is used to drive in {}. | nails | eggs
What do you sweep the floor with? | The floor is swept with a {}. | broom | fork
What do you sleep in? | People sleep in a {}. | bed | sink
What do you see yourself in? | You can see yourself in a {}. | mirror | carpet
What is a window pane made of? | A window pane is made of {}. | glass | wool
What does a camera make? | A camera makes {}. | pictures | sandwiches
What do you wash your hands with? | Hands are washed with water and {}. | soap | butter
Which instrument has black and white keys? | The instrument with black and white keys is the {}. | piano | drum
How many strings does a violin have? | A violin has {} strings. | four | eleven
What does a snowman consist of? | A snowman is made of {}. | snow | stone
What do you ride a horse with? | To ride a horse, you put a {} on its back. | saddle | ladder
What is a fence for? | A fence keeps animals {} a field. | inside | above
Which drink is made from roasted beans? | The drink made from roasted beans is {}. | coffee | lemonade
What is cheese made from? | Cheese is made from {}. | milk | rice
What is wine made from? | Wine is made from {}. | grapes | carrots
Which fruit is yellow and curved? | The yellow, curved fruit is the {}. | banana | cherry
What colour are ripe strawberries? | Ripe strawberries are {}. | red | blue
What colour is a lemon? | A ripe lemon is {}. | yellow | purple
Which vegetable makes people cry when cut? | The vegetable that brings tears is the {}. | onion | cucumber
What do you spread on bread? | On bread people often spread {}. | butter | ink
What is chocolate made from? | Chocolate is made from {} beans. | cocoa | kidney
What do bees make? | Bees make {}. | honey | vinegar
Which animal gives us wool? | Wool comes from {}. | sheep | pigs
Which animal barks? | The animal that barks is the {}. | dog | fish
Which bird cannot fly but swims in icy seas? | The bird that swims in icy seas is the {}. | penguin | eagle
How many legs does a spider have? | A spider has {} legs. | eight | two
How many legs does a horse have? | A horse walks on {} legs. | four | nine
What do cows eat? | Cows mostly eat {}. | grass | mice
Which animal has a trunk? | The animal with a trunk is the {}. | elephant | hedgehog
Which animal has black and white stripes? | Black and white stripes are worn by the {}. | zebra | camel
Where do fish live? | Fish live in {}. | water | trees
What do birds build for their eggs? | For their eggs birds build {}. | nests | barns
Which animal carries its house on its back? | Its house on its back is carried by the {}. | snail | rabbit
What does a cat like to hunt? | A cat likes to hunt {}. | mice | cows
Which insect has large coloured wings? | Large coloured wings belong to the {}. | butterfly | ant
What do squirrels store for winter? | For the winter squirrels store {}. | nuts | coins
Which tool tells north from south? | North is found with a {}. | compass | bucket
What does a kettle do? | A kettle {} water. | boils | freezes
What does a freezer do? | A freezer {} food. | freezes | toasts
What is a calendar for? | A calendar shows the {}. | dates | distances
What do you do with a pencil? | With a pencil people {}. | write | dig
What is a pillow for? | A pillow is put under the {}. | head | table
Which room has an oven? | The oven stands in the {}. | kitchen | bedroom
What do you pay with in a shop? | In a shop people pay with {}. | money | leaves
""",
    "science": """
At what temperature does water freeze? | Water freezes at {} degrees Celsius. | zero | fifty
At what temperature does water boil at sea level? | At sea level water boils at {} degrees Celsius. | a hundred | thirty
What does the Earth move around? | The Earth moves around the {}. | Sun | Moon
What does the Moon move around? | The Moon moves around the {}. | Earth | Sun
Which planet is closest to the Sun? | The planet closest to the Sun is {}. | Mercury | Neptune
Which is the largest planet of the solar system? | The largest planet of the solar system is {}. | Jupiter | Mars
Which planet is known for its bright rings? | The planet with the bright rings is {}. | Saturn | Venus
What gas do people breathe out more of? | The breath that leaves us holds more {}. | carbon dioxide | helium
Which gas do fires need? | A fire cannot burn without {}. | oxygen | argon
What is ice? | Ice is frozen {}. | water | oil
What pulls things to the ground? | Things fall to the ground because of {}. | gravity | magnetism
What does a magnet attract? | A magnet attracts {}. | iron | paper
Which metal is liquid at room temperature? | The metal that is liquid in a warm room is {}. | mercury | copper
What do plants need for making sugar? | To make sugar, plants need {}. | light | noise
Which part of a plant takes up water? | Water is taken up by the {} of a plant. | roots | petals
What colour are most leaves? | Most leaves are {} in summer. | green | blue
What does a seed grow into? | A seed can grow into a {}. | plant | stone
What is rust? | Rust forms on {} in damp air. | iron | glass
Which travels faster, light or sound? | Through air, {} travels faster. | light | sound
What causes day and night? | Day and night come from the {} of the Earth. | turning | shaking
What is the hardest natural stone? | The hardest natural stone is {}. | diamond | chalk
What is table salt made of? | Table salt contains sodium and {}. | chlorine | gold
Which sign stands for oxygen? | The chemical sign of oxygen is {}. | O | K
What does H2O stand for? | The formula H2O stands for {}. | water | salt
What do astronomers look through? | Astronomers look through a {}. | telescope | stethoscope
What makes very small things visible? | Very small things are seen with a {}. | microscope | barometer
How does heat change metal? | When metal is heated, it {}. | expands | shrinks
What do volcanoes throw out? | Volcanoes throw out {}. | lava | honey
What is wind? | Wind is moving {}. | air | light
Where does rain come from? | Rain falls from {}. | clouds | stars
What floats on water? | A piece of {} floats on water. | cork | lead
Which is heavier, a kilogram or a gram? | The heavier of the two is the {}. | kilogram | gram
What does a battery store? | A battery stores {} energy. | chemical | musical
What carries electricity well? | Electricity flows well through {}. | copper | rubber
What is the centre of an atom called? | The centre of an atom is called the {}. | nucleus | horizon
What kind of animal is a whale? | A whale is a {}. | mammal | reptile
What kind of animal is a frog? | A frog is an {}. | amphibian | insect
How many legs does an insect have? | An insect has {} legs. | six | ten
What do caterpillars turn into? | Caterpillars turn into {}. | butterflies | lizards
What covers the body of a bird? | The body of a bird is covered with {}. | feathers | scales
What do fish breathe with? | Fish breathe with {}. | gills | wings
What is a group of stars called? | A huge group of stars is called a {}. | galaxy | glacier
What is the Sun? | The Sun is a {}. | star | comet
What causes the tides of the sea? | The tides are caused mainly by the {}. | Moon | wind
What does a thermometer measure? | A thermometer measures {}. | temperature | distance
What is the unit of length in most countries? | In most countries length is given in {}. | metres | litres
What happens to sugar in hot tea? | In hot tea sugar {}. | dissolves | burns
What happens to ice in the sun? | In the warm sun ice {}. | melts | grows
What does a prism do to white light? | A prism splits white light into {}. | colours | echoes
What is the Earth's air mostly made of? | The air around us is mostly {}. | nitrogen | neon
What is sand on many beaches made of? | The sand of many beaches is made of tiny grains of {}. | quartz | coal
What force slows a sliding box? | A sliding box is slowed by {}. | friction | moonlight
""",
}


def questions(rng: random.Random) -> list[Question]:
    """All questions (over 300), with the wording and the false answers of the relations drawn from rng."""
    found = []
    for topic, wordings, facts in RELATIONS:
        asked, known = table(wordings), table(facts)
        objects = [fact[1] for fact in known]
        others = derangement(rng, objects)
        for number, ((subject, right), wrong) in enumerate(zip(known, others)):
            ask, answer = asked[(number + rng.randrange(2)) % len(asked)]
            true, false = (answer.format(subject, given) for given in (right, wrong))
            found.append(Question(f"{topic}:{subject}", topic, ask.format(subject), true, false))
    for topic, text in FREE.items():
        for ask, answer, right, wrong in table(text):
            found.append(Question(f"{topic}:{ask}", topic, ask, answer.format(right), answer.format(wrong)))
    return found


def derangement(rng: random.Random, objects: list[str]) -> list[str]:
    """The objects in an order in which none stands where it, or one that is spelt like it, stood."""
    order = list(objects)
    while any(was == now for was, now in zip(objects, order)):
        rng.shuffle(order)
        for place, was in enumerate(objects):
            if order[place] == was:
                other = next((k for k, now in enumerate(order) if was not in (now, objects[k])), place)
                order[place], order[other] = order[other], order[place]
    return order
