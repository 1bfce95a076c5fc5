"""French against other languages: plain sentences put together from phrases that were written in each language."""

from __future__ import annotations

from hooke.data.labelled.rows import Dataset, Row
from hooke.data.labelled.tables import finished, generator, table

# a column a language; a sentence is a subject, a predicate and a circumstance of the same column
LANGUAGES = ("French", "English", "German", "Spanish", "Italian", "Portuguese", "Dutch")
SUBJECTS = table("""
Ma voisine | My neighbour | Meine Nachbarin | Mi vecina | La mia vicina | A minha vizinha | Mijn buurvrouw
Le vieux facteur | The old postman | Der alte Briefträger | El viejo cartero | Il vecchio postino | O velho carteiro |
  De oude postbode
Notre cousin | Our cousin | Unser Vetter | Nuestro primo | Nostro cugino | O nosso primo | Onze neef
La petite fille | The little girl | Das kleine Mädchen | La niña pequeña | La bambina | A menina | Het kleine meisje
Un jeune médecin | A young doctor | Ein junger Arzt | Un médico joven | Un giovane medico | Um jovem médico |
  Een jonge arts
Votre professeur | Your teacher | Euer Lehrer | Vuestro profesor | Il vostro professore | O vosso professor |
  Jullie leraar
Cette famille | This family | Diese Familie | Esta familia | Questa famiglia | Esta família | Dit gezin
Le boulanger | The baker | Der Bäcker | El panadero | Il fornaio | O padeiro | De bakker
""")
PREDICATES = table("""
achète du pain | buys bread | kauft Brot | compra pan | compra il pane | compra pão | koopt brood
écrit une longue lettre | writes a long letter | schreibt einen langen Brief | escribe una carta larga |
  scrive una lunga lettera | escreve uma carta longa | schrijft een lange brief
cherche ses clés | looks for the keys | sucht die Schlüssel | busca sus llaves | cerca le chiavi |
  procura as chaves | zoekt de sleutels
lit le journal | reads the newspaper | liest die Zeitung | lee el periódico | legge il giornale | lê o jornal |
  leest de krant
prépare le dîner | prepares dinner | kocht das Abendessen | prepara la cena | prepara la cena per tutti |
  prepara o jantar | maakt het avondeten
attend le train | waits for the train | wartet auf den Zug | espera el tren | aspetta il treno | espera o comboio |
  wacht op de trein
joue avec le chien | plays with the dog | spielt mit dem Hund | juega con el perro | gioca con il cane |
  brinca com o cão | speelt met de hond
parle de son voyage | talks about the journey | spricht über die Reise | habla de su viaje | parla del suo viaggio |
  fala da sua viagem | praat over de reis
répare la bicyclette | repairs the bicycle | repariert das Fahrrad | repara la bicicleta | ripara la bicicletta |
  conserta a bicicleta | repareert de fiets
ouvre les fenêtres | opens the windows | öffnet die Fenster | abre las ventanas |
  apre le finestre | abre as janelas | opent de ramen
chante une chanson | sings a song | singt ein Lied | canta una canción | canta una canzone | canta uma canção |
  zingt een lied
plante un arbre | plants a tree | pflanzt einen Baum | planta un árbol | pianta un albero | planta uma árvore |
  plant een boom
lave la voiture | washes the car | wäscht das Auto | lava el coche | lava la macchina | lava o carro | wast de auto
boit du thé | drinks tea | trinkt Tee | bebe té | beve il tè | bebe chá | drinkt thee
dessine une carte | draws a map | zeichnet eine Karte | dibuja un mapa | disegna una mappa | desenha um mapa |
  tekent een kaart
compte les pièces | counts the coins | zählt die Münzen | cuenta las monedas | conta le monete | conta as moedas |
  telt de munten
""")
CIRCUMSTANCES = table("""
chaque matin | every morning | jeden Morgen | cada mañana | ogni mattina | todas as manhãs | elke ochtend
près de l'église | near the church | neben der Kirche | cerca de la iglesia | vicino alla chiesa |
  perto da igreja | naast de kerk
avec patience | with much patience | mit viel Geduld | con mucha paciencia | con molta pazienza |
  com muita paciência | met veel geduld
depuis une heure | for an hour now | seit einer Stunde | desde hace una hora | da un'ora | há uma hora | al een uur
dans la cuisine | in the kitchen | in der Küche | en la cocina | in cucina | na cozinha | in de keuken
avant les vacances | before the holidays | vor den Ferien | antes de las vacaciones | prima delle vacanze |
  antes das férias | voor de vakantie
""")
# another subject, in whole sentences: nature and knowledge
NATURE = table("""
L'eau des rivières coule vers la mer. | The water of rivers flows to the sea. | Das Wasser der Flüsse fließt ins Meer. |
  El agua de los ríos corre hacia el mar. | L'acqua dei fiumi scorre verso il mare. |
  A água dos rios corre para o mar. | Het water van de rivieren stroomt naar zee.
En hiver, les nuits sont plus longues. | In winter the nights are longer. | Im Winter sind die Nächte länger. |
  En invierno las noches son más largas. | D'inverno le notti sono più lunghe. |
  No inverno as noites são mais longas. | In de winter zijn de nachten langer.
Les abeilles visitent les fleurs du pré. | The bees visit the flowers of the meadow. |
  Die Bienen besuchen die Blumen der Wiese. | Las abejas visitan las flores del prado. |
  Le api visitano i fiori del prato. | As abelhas visitam as flores do prado. |
  De bijen bezoeken de bloemen van de weide.
La lune éclaire la montagne. | The moon lights up the mountain. | Der Mond beleuchtet den Berg. |
  La luna ilumina la montaña. | La luna illumina la montagna. | A lua ilumina a montanha. | De maan verlicht de berg.
Un arbre a besoin de lumière. | A tree needs light. | Ein Baum braucht Licht. | Un árbol necesita luz. |
  Un albero ha bisogno di luce. | Uma árvore precisa de luz. | Een boom heeft licht nodig.
Le fer devient rouge dans le feu. | Iron turns red in the fire. | Eisen wird im Feuer rot. |
  El hierro se pone rojo en el fuego. | Il ferro diventa rosso nel fuoco. | O ferro fica vermelho no fogo. |
  IJzer wordt rood in het vuur.
Les baleines respirent à la surface. | Whales breathe at the surface. | Wale atmen an der Oberfläche. |
  Las ballenas respiran en la superficie. | Le balene respirano in superficie. |
  As baleias respiram à superfície. | Walvissen ademen aan de oppervlakte.
Le vent pousse les nuages vers l'est. | The wind drives the clouds to the east. |
  Der Wind treibt die Wolken nach Osten. |
  El viento empuja las nubes hacia el este. | Il vento spinge le nuvole verso est. |
  O vento empurra as nuvens para leste. | De wind drijft de wolken naar het oosten.
Cette plante pousse dans le sable. | This plant grows in sand. | Diese Pflanze wächst im Sand. |
  Esta planta crece en la arena. | Questa pianta cresce nella sabbia. | Esta planta cresce na areia. |
  Deze plant groeit in zand.
La glace fond quand il fait chaud. | Ice melts when it is warm. | Eis schmilzt, wenn es warm ist. |
  El hielo se derrite cuando hace calor. | Il ghiaccio si scioglie quando fa caldo. |
  O gelo derrete quando está calor. | IJs smelt als het warm is.
""")
# another form: questions and requests
TALK = table("""
Où se trouve la gare ? | Where is the station? | Wo ist der Bahnhof? | ¿Dónde está la estación? | Dov'è la stazione? |
  Onde fica a estação? | Waar is het station?
Combien coûte ce chapeau ? | How much is this hat? | Was kostet dieser Hut? | ¿Cuánto cuesta este sombrero? |
  Quanto costa questo cappello? | Quanto custa este chapéu? | Hoeveel kost deze hoed?
Ferme la porte, s'il te plaît. | Close the door, please. | Mach bitte die Tür zu. | Cierra la puerta, por favor. |
  Chiudi la porta, per favore. | Fecha a porta, por favor. | Doe de deur dicht, alsjeblieft.
Tu viens avec nous demain ? | Are you coming with us tomorrow? | Kommst du morgen mit? | ¿Vienes mañana con nosotros? |
  Vieni con noi domani? | Vens connosco amanhã? | Kom je morgen mee?
Ne touche pas au gâteau ! | Don't touch the cake! | Fass den Kuchen nicht an! | ¡No toques el pastel! |
  Non toccare la torta! | Não mexas no bolo! | Blijf van de taart af!
Quel âge a ton frère ? | How old is your brother? | Wie alt ist dein Bruder? | ¿Cuántos años tiene tu hermano? |
  Quanti anni ha tuo fratello? | Que idade tem o teu irmão? | Hoe oud is je broer?
Merci pour les belles fleurs. | Thank you for the lovely flowers. | Danke für die schönen Blumen. |
  Gracias por las flores tan bonitas. | Grazie per i bei fiori. | Obrigada pelas lindas flores. |
  Bedankt voor de mooie bloemen.
Attends, j'arrive tout de suite. | Wait, I am coming at once. | Warte, ich komme gleich. | Espera, llego enseguida. |
  Aspetta, arrivo subito. | Espera, chego já. | Wacht, ik kom er zo aan.
Qui a mangé ma pomme ? | Who ate my apple? | Wer hat meinen Apfel gegessen? | ¿Quién se ha comido mi manzana? |
  Chi ha mangiato la mia mela? | Quem comeu a minha maçã? | Wie heeft mijn appel opgegeten?
Bonne nuit et à bientôt. | Good night and see you soon. | Gute Nacht und bis bald. | Buenas noches y hasta pronto. |
  Buona notte e a presto. | Boa noite e até breve. | Goede nacht en tot gauw.
""")
# languages that no fit has seen, beside French sentences of their own: Catalan, Romanian, Swedish, Polish
UNSEEN = table("""
Le chat dort sur le toit. | El gat dorm a la teulada. | Pisica doarme pe acoperiș. | Katten sover på taket. |
  Kot śpi na dachu.
Mon père travaille à l'usine. | El meu pare treballa a la fàbrica. | Tatăl meu lucrează la fabrică. |
  Min far arbetar på fabriken. | Mój ojciec pracuje w fabryce.
On a perdu la carte. | Hem perdut el mapa. | Am pierdut harta. | Vi har tappat kartan. | Zgubiliśmy mapę.
La maison est trop petite. | La casa és massa petita. | Casa este prea mică. | Huset är för litet. |
  Dom jest za mały.
Il pleut depuis ce matin. | Plou des d'aquest matí. | Plouă de azi-dimineață. | Det har regnat sedan i morse. |
  Od rana pada deszcz.
Elle a trouvé un vieux livre. | Ella ha trobat un llibre vell. | Ea a găsit o carte veche. |
  Hon hittade en gammal bok. | Ona znalazła starą książkę.
Le lait est sur la table. | La llet és a la taula. | Laptele este pe masă. | Mjölken står på bordet. |
  Mleko stoi na stole.
Mes amis habitent loin d'ici. | Els meus amics viuen lluny d'aquí. | Prietenii mei locuiesc departe de aici. |
  Mina vänner bor långt härifrån. | Moi przyjaciele mieszkają daleko stąd.
Le film finit tard. | La pel·lícula acaba tard. | Filmul se termină târziu. | Filmen slutar sent. |
  Film kończy się późno.
Je voudrais un verre d'eau. | Voldria un got d'aigua. | Aș vrea un pahar cu apă. | Jag vill ha ett glas vatten. |
  Poproszę szklankę wody.
""")
# forms of no language, so that the held-out French sentences are not one in seven
FORMS = ("{}", "1. {}", "– {}", "({})")
SHIFTS = ("nature", "questions and requests", "unseen languages")


def language(seed: int = 0) -> Dataset:
    """Sentences in seven languages (label 1: French), French as often as all the others together.

    Held out: another subject in whole sentences, questions and requests, and four languages that no fit has seen
    beside new French sentences. A group is one meaning in all of its languages.
    """
    rng = generator("language", seed)
    rows: list[Row] = []
    for number, predicate in enumerate(PREDICATES):
        for _ in range(3):
            for column in range(1, len(LANGUAGES)):
                for spoken in (0, column):
                    parts = rng.choice(SUBJECTS)[spoken], predicate[spoken], rng.choice(CIRCUMSTANCES)[spoken]
                    rows.append(Row(" ".join(parts) + ".", int(spoken == 0), f"everyday:{number}", "everyday"))
    for topic, meanings in zip(SHIFTS, (NATURE, TALK, UNSEEN)):
        for number, meaning in enumerate(meanings):
            given = [(0, form) for form in FORMS] + [(k, rng.choice(FORMS)) for k in range(1, len(meaning))]
            for spoken, form in given:
                rows.append(Row(form.format(meaning[spoken]), int(spoken == 0), f"{topic}:{number}", topic))
    about = "Sentences in French and in ten other languages, four of them only in a shift; label 1: French"
    return finished("language", about, ("other language", "French"), rows, SHIFTS)
