"""What words are about: places, people, nature, things, work, feelings. All in small letters."""

from __future__ import annotations

SUBJECTS = {
    "months": "january february march april may june july august september october november december",
    "days of the week": "monday tuesday wednesday thursday friday saturday sunday weekend weekday",
    "seasons": "spring summer autumn winter fall season seasons",
    "units of time": (
        "second seconds minute minutes hour hours day days week weeks month months year years decade decades century "
        "centuries moment millennium"
    ),
    "times of day": "morning afternoon evening night noon midnight dawn dusk today tomorrow yesterday tonight now",
    "countries": (
        "france germany italy spain portugal england britain scotland ireland wales poland russia ukraine greece "
        "turkey sweden norway denmark finland netherlands belgium austria switzerland hungary romania bulgaria serbia "
        "croatia china japan korea india pakistan iran iraq israel egypt syria afghanistan vietnam thailand indonesia "
        "malaysia philippines singapore australia canada mexico brazil argentina chile peru colombia cuba kenya "
        "nigeria ghana ethiopia morocco algeria america usa uk"
    ),
    "capitals and cities": (
        "paris london berlin rome madrid lisbon vienna moscow athens dublin brussels amsterdam stockholm oslo "
        "helsinki copenhagen warsaw prague budapest beijing tokyo seoul delhi mumbai shanghai bangkok cairo jerusalem "
        "baghdad tehran istanbul sydney melbourne toronto washington boston chicago york angeles francisco "
        "philadelphia houston seattle dallas detroit miami atlanta denver"
    ),
    "european capitals": (
        "paris london berlin rome madrid lisbon vienna moscow athens dublin brussels amsterdam stockholm oslo "
        "helsinki copenhagen warsaw prague budapest bern kiev belgrade sofia bucharest"
    ),
    "states of america": (
        "california texas florida ohio virginia georgia michigan illinois pennsylvania washington oregon arizona "
        "colorado minnesota wisconsin indiana iowa kansas kentucky tennessee alabama louisiana massachusetts maryland "
        "hawaii alaska nevada utah"
    ),
    "continents and regions": (
        "europe asia africa america australia antarctica east west north south eastern western northern southern "
        "atlantic pacific mediterranean region regions arctic"
    ),
    "nationalities": (
        "french german italian spanish portuguese english british scottish irish polish russian greek turkish swedish "
        "norwegian danish dutch belgian austrian swiss chinese japanese korean indian american canadian mexican "
        "brazilian african european asian australian egyptian israeli jewish arab roman"
    ),
    "languages": (
        "english french german spanish italian latin greek russian chinese japanese arabic hebrew portuguese dutch "
        "hindi korean turkish language languages"
    ),
    "names of men": (
        "john james robert michael william david richard joseph thomas charles daniel matthew mark paul george steven "
        "kevin brian edward peter henry jack tom bob jim bill joe sam ben alex adam luke simon martin frank eric "
        "andrew anthony jason"
    ),
    "names of women": (
        "mary patricia jennifer linda elizabeth barbara susan jessica sarah karen nancy lisa margaret anna emma emily "
        "laura julia maria alice jane kate rachel amy helen sophia olivia"
    ),
    "family": (
        "mother father parent parents son daughter brother sister husband wife child children uncle aunt cousin "
        "family grandmother grandfather baby mom dad siblings"
    ),
    "friends and partners": (
        "friend friends partner partners neighbor neighbour colleague colleagues enemy enemies rival"
    ),
    "parts of the body": (
        "head face eye eyes ear ears nose mouth tooth teeth tongue neck shoulder arm arms hand hands finger fingers "
        "chest heart stomach back leg legs knee foot feet skin bone bones blood brain muscle muscles hair lung lungs "
        "liver throat"
    ),
    "animals": (
        "dog dogs cat cats horse horses cow cows pig pigs sheep goat bird birds fish lion tiger bear wolf fox rabbit "
        "mouse rat elephant monkey snake frog insect insects bee bees spider butterfly whale shark chicken duck "
        "animal animals"
    ),
    "plants": (
        "tree trees plant plants flower flowers grass leaf leaves root roots seed seeds forest forests wood rose oak "
        "pine garden crop crops fruit"
    ),
    "food": (
        "food bread rice meat beef chicken pork fish egg eggs cheese butter milk sugar salt soup salad cake chocolate "
        "pasta pizza vegetables potato potatoes tomato beans fruit apple apples banana orange lemon meal breakfast "
        "lunch dinner recipe"
    ),
    "drinks": "water tea coffee juice milk wine beer drink drinks soda alcohol vodka",
    "cooking": "cook cooking cooked bake baked boil fry oven kitchen mix stir heat pan pot recipe ingredients chef",
    "colours": (
        "red blue green yellow black white orange purple pink brown gray grey gold silver dark bright color colour "
        "colors"
    ),
    "clothes": (
        "shirt dress shoes shoe hat coat jacket pants skirt socks clothes clothing suit gloves boots wear wearing"
    ),
    "house and furniture": (
        "house home room rooms door doors window windows wall walls floor roof kitchen bedroom bathroom table chair "
        "bed desk sofa lamp furniture apartment"
    ),
    "buildings": (
        "building buildings house church temple castle tower bridge school hospital museum library hotel station "
        "prison palace factory theater theatre office restaurant store"
    ),
    "vehicles": (
        "car cars truck bus train trains plane airplane aircraft ship ships boat boats bicycle bike vehicle vehicles "
        "rocket helicopter engine wheel wheels"
    ),
    "roads and travel": (
        "road roads street streets highway path route journey trip travel tour flight map airport bridge"
    ),
    "tools and machines": (
        "tool tools machine machines hammer knife saw drill engine motor pump device devices equipment instrument "
        "robot robots"
    ),
    "materials": (
        "wood metal iron steel gold silver copper stone glass plastic paper cotton wool leather rubber concrete clay "
        "cloth oil coal"
    ),
    "weather": (
        "rain snow wind storm storms cloud clouds sun sunny weather thunder lightning fog ice temperature climate"
    ),
    "landscapes": (
        "mountain mountains hill hills river rivers lake lakes sea ocean oceans island islands valley desert beach "
        "coast forest cave cliff land field fields"
    ),
    "space": (
        "sun moon earth star stars planet planets mars jupiter venus saturn galaxy universe orbit space solar comet "
        "telescope"
    ),
    "directions": "up down left right north south east west forward backward top bottom front back inside outside",
    "sizes": (
        "big large small little tiny huge great long short tall high low wide narrow deep thin thick giant enormous"
    ),
    "new and old": "new old young ancient modern recent recently early late current contemporary traditional former",
    "speed": "fast quick quickly slow slowly speed rapid rapidly suddenly immediately instantly",
    "temperature": "hot cold warm cool heat temperature freezing boiling ice fire burn degrees",
    "measures": (
        "meter meters metre kilometer mile miles foot feet inch inches gram kilogram pound pounds ton tons liter "
        "gallon degree degrees percent byte bytes watt volts"
    ),
    "shapes": "circle square triangle rectangle line lines point points sphere cube cylinder angle curve shape round",
    "good things said": (
        "good great excellent wonderful amazing best perfect beautiful nice fantastic brilliant impressive "
        "outstanding superb fine positive successful"
    ),
    "bad things said": (
        "bad terrible awful horrible worst poor ugly wrong disgusting negative evil stupid boring useless "
        "disappointing weak"
    ),
    "happy feelings": (
        "happy joy love loved glad pleased delighted excited hope proud fun enjoy smile laugh happiness pleasure"
    ),
    "sad and angry feelings": (
        "sad sadness angry anger fear afraid scared hate hated worry worried anxiety pain grief lonely upset jealous "
        "shame guilt cry tears"
    ),
    "war and weapons": (
        "war wars army soldier soldiers battle weapon weapons gun guns bomb bombs attack military enemy troops navy "
        "tank missile sword fight fighting defeat"
    ),
    "crime and law": (
        "crime criminal murder theft police prison jail court judge law laws lawyer trial guilty legal illegal victim "
        "arrest evidence jury"
    ),
    "politics": (
        "president government minister election elections vote party political politics congress senate parliament "
        "democracy republican democratic policy campaign senator governor mayor"
    ),
    "kings and nobles": "king queen prince princess emperor duke lord royal crown throne kingdom empire palace dynasty",
    "religion": (
        "god church religion religious christian christ jesus bible prayer pray priest holy spirit soul heaven hell "
        "islam muslim buddhist temple faith saint angel"
    ),
    "money": (
        "money dollar dollars euro euros pound cent cents price prices cost costs pay payment bank tax taxes income "
        "salary cash credit debt budget rich poor"
    ),
    "business": (
        "company companies business market markets industry customer customers product products sales trade "
        "investment profit manager corporation firm brand advertising economy economic"
    ),
    "jobs": (
        "doctor nurse teacher engineer lawyer farmer driver worker workers artist writer author actor scientist "
        "professor soldier manager chef pilot officer assistant secretary"
    ),
    "school": (
        "school schools student students teacher teachers class lesson university college education learn learning "
        "study exam degree course courses curriculum homework"
    ),
    "science": (
        "science scientific scientist scientists research experiment experiments theory hypothesis laboratory physics "
        "chemistry biology data evidence study studies"
    ),
    "chemistry": (
        "oxygen hydrogen carbon nitrogen acid atom atoms molecule molecules chemical chemicals reaction element "
        "elements compound solution water sodium protein proteins"
    ),
    "biology": (
        "cell cells gene genes dna protein proteins species evolution organism organisms bacteria virus enzyme tissue "
        "genetic"
    ),
    "medicine": (
        "disease diseases cancer patient patients doctor hospital treatment drug drugs medicine symptoms infection "
        "surgery health medical therapy vaccine diagnosis pain virus diabetes"
    ),
    "mathematics": (
        "number numbers sum product equation function matrix vector integer prime square root angle theorem proof "
        "algebra geometry calculus probability mean average ratio"
    ),
    "computers": (
        "computer computers software hardware program programs code data file files system systems network server "
        "memory processor disk keyboard screen user users operating"
    ),
    "internet": (
        "internet web website online email http https www url html link links page pages browser server download "
        "google facebook twitter"
    ),
    "files and folders": (
        "file files folder directory path filename document documents directories paths archive archives"
    ),
    "text and writing": (
        "text word words letter letters character characters sentence sentences line lines paragraph page pages book "
        "books chapter title story stories poem essay article"
    ),
    "art": (
        "art artist paint painting paintings draw drawing sculpture museum gallery color design portrait image images"
    ),
    "music": (
        "music song songs band singer album piano guitar violin drum concert dance sing orchestra melody rhythm jazz "
        "rock"
    ),
    "films and theatre": (
        "film films movie movies actor actress director scene theater theatre stage drama comedy character"
    ),
    "sports": (
        "game games team teams player players football soccer basketball baseball tennis match win won score goal "
        "coach league race olympic championship"
    ),
    "games": "game games play player players chess card cards dice puzzle board score level win lose",
    "electricity": (
        "electric electricity electrical power energy battery voltage current circuit wire light solar magnetic"
    ),
    "energy and fuel": "energy fuel oil gas coal nuclear solar power heat electricity carbon emissions renewable",
    "safety and danger": (
        "safe safety danger dangerous risk risks secure security protect protection threat hazard warning"
    ),
    "secrets and passwords": (
        "password passwords key keys secret token credentials encrypt encryption encrypted private authentication "
        "hash certificate signature"
    ),
    "truth and lies": "true truth false lie lies lied lying honest fake real fact facts deceive fraud myth trick",
    "life and death": "life alive live lived birth born die died dies dead death kill killed survive funeral grave",
    "numbers and counting": (
        "number numbers count counts total amount sum average percent percentage half double quarter"
    ),
}
