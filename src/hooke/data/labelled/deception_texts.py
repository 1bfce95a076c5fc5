"""Kinds of deception, each described truly and falsely, and messages that are themselves meant to deceive."""

from hooke.data.labelled.tables import table

# topic | name | what it truly is | how people truly guard against it |
#   a false account of it | bad advice given as good
KINDS = table("""
crime | phishing | sending mail in another's name to get at passwords | typing the address of the bank yourself |
  sorting the mail of a big firm by colour | answering each mail with your password at once
crime | a Ponzi scheme | paying earlier investors with the money of later ones | asking where the profit comes from |
  lending seeds to farmers until the harvest is in | putting in more money as soon as it slows down
crime | identity theft | using the personal data of somebody else to borrow money |
  keeping papers and numbers locked up |
  changing your own name when you marry | printing your numbers on your front door
crime | counterfeiting | printing money that no bank has issued | feeling the paper and looking for the watermark |
  the counting of coins at the end of a day | accepting every note that looks old and soft
crime | insurance fraud | claiming for a loss that never happened | having an expert look at the damage |
  insuring two houses with one company | paying each claim before anybody reads it
crime | pretexting | inventing a role to draw out private facts | calling back on a number you know |
  writing the text of a lesson in advance | giving every caller what he asks for
crime | skimming | copying bank cards with a hidden reader | covering the keypad and checking the slot |
  taking the cream from cold milk at a bank | handing your card to people in the queue
crime | embezzlement | taking money that was entrusted to you | letting two people sign for each payment |
  sewing a company's badge on to a coat | leaving the accounts to a single person
crime | a sham invoice | billing a firm for work that nobody did | comparing every bill with an order |
  a bill that has been paid twice by cheque | paying bills the moment they arrive
crime | money laundering | hiding where criminal money came from | asking customers to show their sources |
  washing coins to make them last longer | taking suitcases of cash without a question
crime | bribery | paying an official for an unfair favour | publishing all gifts to officials |
  paying a fee for a lost library book | giving officials cash before they decide
crime | a romance scam | feigning love online to ask for money | never sending money to a stranger |
  a novel in which two thieves fall in love | computation money to prove that you care
online | a deepfake | a computed video of things nobody said | looking for the first source of a clip |
  a film shot at the bottom of the sea | trusting a clip if the face is familiar
online | clickbait | a headline that promises more than the text holds | reading the text before passing it on |
  a small trap for mice with a loud spring | sharing each headline before you read it
online | a fake review | praise that was bought and not felt | reading the critical reviews as well |
  a review that was written in pencil first | trusting whichever product has the most stars
online | a sock puppet | a second account that pretends to be another person | comparing the style of the accounts |
  an account that is read out to children | trusting accounts which agree with each other
online | spoofing | making a call seem to come from another number | hanging up and dialling the number yourself |
  turning a phone off during a concert | believing the number shown on the screen
online | a Trojan horse | a useful looking program with a harmful part | installing programs from their makers only |
  a program that draws horses for children | running every program that strangers send
online | astroturfing | paid voices that pose as a popular movement | asking who pays for a campaign |
  laying out plastic lawns in stadiums | counting only the number of voices
online | catfishing | posing online as a person you are not | asking for a talk by video |
  fishing at night with a small lamp | sending your pictures before you talk
online | a rumour bot | a program that spreads made-up stories | checking how old an account is |
  a robot that listens for noises in pipes | repeating what many accounts repeat
online | a scareware window | a false alarm that sells a useless program | closing the window without a click |
  a warm window used in northern houses | calling the number in the alarm quickly
mind | gaslighting | making somebody doubt his own memory | writing down what was said |
  lighting a street with gas lamps | trusting only the other's memory
mind | flattery | praising somebody for your own gain | asking what the praise is for |
  making a bent metal sheet even again | lending money to anyone who praises you
mind | a white lie | an untruth told to spare someone's feelings | asking kindly for an honest view |
  a printing error on white paper | assuming that kind words are always exact
mind | self-deception | not admitting to yourself what you half know | asking a friend to look at it as well |
  an illness of the inner ear | avoiding all people who disagree
mind | bluffing | acting as if your hand were better than it is | watching how somebody bets over time |
  showing all your cards before the game | leaving the game after each raise
mind | a half-truth | a true sentence that leaves out what matters | asking what has been left out |
  a sentence with an even number of words | being content with the first answer
mind | exaggeration | making a thing bigger in words than it is | asking for figures |
  the habit of speaking very slowly | adding a bit to each story yourself
mind | feigned illness | acting sick to be spared some work | asking a doctor |
  a fever that comes back in spring | sending home everybody who coughs
mind | a poker face | a face that hides what its owner feels | looking at the hands instead |
  a mask that was worn at weddings | trusting that calm people feel nothing
mind | an excuse | a reason given to avoid blame | asking gently for details |
  a receipt for goods that came back | believing the longest reason
business | misleading packaging | a box that looks as if it held more | reading the weight and the price per kilo |
  a parcel that went to a wrong town | choosing whichever box is the biggest
business | greenwashing | advertising that makes a firm look kinder to nature | looking for figures from outside |
  painting the walls of a factory green in spring | trusting the colour of the label
business | a bait offer | a cheap product that is never in stock | asking for the advertised one in writing |
  an offer made to fishermen's clubs | buying the dearer product at once
business | price fixing | rivals who agree in secret on high prices | reporting such talks to the authority |
  repairing the labels on a shelf | letting the rivals meet in private
business | hidden fees | costs that show only after the choice | adding up the total first |
  coins that people lose in sofas | signing before you see the total
business | insider trading | dealing in shares with secret knowledge | publishing news to all at one time |
  selling goods inside a heated hall | telling friends the figures early
business | a forged diploma | a certificate that no school ever gave | asking the school itself |
  a diploma for work with hot iron | hiring whoever has the finest seal
business | window dressing | making accounts look better before a deadline | comparing several years |
  hanging curtains in a board room | reading only the last page
history | the wooden horse of Troy | a gift that had soldiers hidden inside | looking into a gift from an enemy |
  a toy that a Greek king gave his son | dragging large gifts into the city
history | the Piltdown man | bones of man and ape sold as one early human | testing the age of the bones |
  a postman who walked through all England | trusting bones that fit our hopes
history | the chess Turk | a machine with a human player inside | opening every door of it at once |
  a famous sultan who wrote about chess | looking at only one door at a time
history | the Cottingley fairies | photographs of paper fairies | asking how a picture was made |
  small butterflies found near a village | believing each photograph that moves us
history | the forged Vermeers | modern paintings sold as old masters | testing the age of the paint |
  copies made by the painter's children | judging a painting by its price
history | Potemkin's villages | fronts said to hide poor houses from a ruler | walking behind the fronts |
  villages that were built on wooden rafts | staying in the coach
history | the Cardiff giant | a carved figure sold as a man of stone | asking a mason about the tool marks |
  a very tall rugby player from Wales | paying first and looking later
history | the moon hoax of 1835 | a newspaper tale of bats living on the moon | asking other observers |
  a night when the moon was not seen | believing what is printed
history | the false Anastasia | a woman who claimed to be a lost princess | comparing family traits by a test |
  a ballet about two sisters from Kiev | trusting whoever knows the court
history | dummy tanks | rubber tanks that misled the enemy in war | looking from more than one side |
  tanks in which beginners learned to drive | counting the tanks from far away
history | spirit photography | double exposures sold as pictures of ghosts | watching how the plate is handled |
  photographs of people who drink | buying the plate from the seller
fiction | the emperor's new clothes | a tale of weavers who sell a cloth that is not there | saying what you see |
  a tale of a tailor who fell asleep | praising what all the others praise
fiction | the boy who cried wolf | a tale of false alarms that end badly | raising an alarm only if there is a reason |
  a tale about a boy raised by wolves | shouting often so people stay awake
fiction | Pinocchio's nose | a nose that grows whenever a puppet lies | saying sorry early |
  a nose that was broken in a fall | telling a bigger story each time
fiction | the cuckoo in a fable | a bird that lets others raise its young | counting the eggs in a nest |
  a bird that paints its eggs yellow | leaving the nest alone for weeks
fiction | the fox and the crow | a fable of a fox who flatters a crow for cheese | holding on to what you have |
  a fable of two friends who share a cheese | singing for everybody who asks
fiction | Iago in the play | a man who ruins a friend with false hints | asking the accused person first |
  a general who loses his way at sea | believing the friend who whispers
fiction | Tom Sawyer's fence | a boy who makes work look like fun | asking why somebody offers you his task |
  a boy who builds a fence from driftwood | paying to do another's work
fiction | the wolf in a nightcap | a wolf who dresses up as a grandmother | looking twice at a strange face |
  a wolf who was cold at night | walking up to the bed
fiction | a double agent | a spy who works for the other side as well | giving each spy another secret to keep |
  an actor who plays two parts a week | trusting a spy who tells you much
""")

# messages meant to deceive the reader: a claim with a slot for a name or a number | topic
MESSAGES = table("""
crime | Your account {n} will be closed tonight unless you confirm your password through the link in this mail.
crime | I am a banker in a far country and need your help to move {n} million; a third of it will be yours.
crime | Mum, this is my new number, the old phone broke. Can you send {n} hundred at once? I pay it back tomorrow.
crime | This is the police, and your savings of {n} thousand are in danger. Hand them to our officer at your door.
crime | You owe {n} euros of tax. Buy gift cards for the sum and read me their numbers, or we come to fetch you.
crime | My wallet was stolen at the airport, dear friend, so please wire {n} hundred. I shall be home on Sunday.
crime | Our fund has paid {n} per cent a month without a single loss. Bring two friends and your share will double.
crime | Your parcel number {n} waits at the depot. Pay the small fee with your card here and it comes today.
crime | The roof of this house will fall in by {n} May, madam. Luckily we have material left and take cash.
crime | I love you although we never met. Only the {n} hundred for the visa stand between us, my darling.
online | Congratulations! You are visitor number {n} and have won a phone. Enter your card so that we can send it.
online | Warning: {n} viruses were found on your computer. Call our helpers now and let them look inside it.
online | I lost {n} kilos in a week with these drops and ate cake every day. Doctors do not want you to know.
online | Best shop ever, five stars, I have ordered {n} times! (They gave me the toaster for writing this.)
online | As an ordinary mother of {n} I just want to say that the new factory is loved by everyone in town.
online | A secret video shows that {n} lions walk in the centre of our town. Send this to all your friends.
online | Only today your old coins are worth {n} thousand each. Post them to us and the money will follow.
online | Install this update within {n} minutes or all your pictures will be deleted. It is quite harmless.
online | I am a real doctor and treated {n} people with moon water; every one of them can see again.
online | The singer you adore wants to write to you in private. Just pay {n} euros to open the chat.
mind | I told you that yesterday, {n} times even. You forget everything lately, and people have begun to notice.
mind | You have by far the finest taste of all my {n} customers, so I know that you will not ask the price.
mind | My grandmother has died, it is the {n} of them this year I know, so I could not finish the essay.
mind | I never saw that letter. Somebody must have put it on my desk {n} days ago, behind my back.
mind | Nobody else has complained in {n} years. It really can only be you who hears that noise, madam.
mind | Of course I practised, for {n} hours, but the violin was out of tune and nobody could have played it.
mind | My bus had {n} flat tyres this morning, one after the other, and that is the only reason I am late.
mind | I have {n} better offers on the table, so take mine today or you will never hear from me again.
business | This car had one careful owner and was driven {n} kilometres only, to church and back on Sundays.
business | Only {n} pieces are left in the whole country, and tomorrow the price goes up, so decide right now.
business | Our water has {n} times more oxygen and makes your children better at sums within a week.
business | The fee is nothing at all. (A small sum of {n} hundred for the paper work comes at the very end.)
business | Our plastic cups are good for the forest, because {n} leaves are printed upon each one of them.
business | I studied for {n} years in Oxford, though sadly the papers were all lost in a fire.
business | The flat is bright and very quiet. The {n} trains an hour stop as soon as you have signed.
business | All our eggs come from {n} happy hens in a meadow, as you see from the picture on the box.
history | This is the true helmet of a Viking king, found {n} metres below my garden and never shown to anyone.
history | For {n} coins I sell you a feather of the firebird, which I myself took from its nest at night.
history | I am the lost son of the old king and lived for {n} years among shepherds; the crown is mine.
history | Here you see a mermaid from the southern sea, {n} years old and perfectly real. No touching, please.
history | My machine of {n} wheels plays chess on its own; there is nobody inside, you have my word.
history | This stone fell from the moon {n} days ago, and it heals toothache for anybody who pays to hold it.
history | The city wall has {n} thousand soldiers behind it, enemy, so turn round while you still can.
history | The bones in this box are from a giant of {n} feet, and a famous professor swears that it is so.
fiction | Lovely feathers, Mister Crow! All {n} birds of the wood say that you sing best. Won't you sing for me?
fiction | It is only me, your grandmother. My voice is rough from {n} days of cold, child, so lift the latch.
fiction | Only clever people can see this cloth of {n} threads, your majesty, and you look so very clever.
fiction | Wolf, wolf! There are {n} of them among the sheep, come quickly, I am not playing this time either!
fiction | Painting a fence is the finest fun there is. I would not let you have the brush for {n} apples.
fiction | Plant your {n} gold coins in this field, puppet, and by the morning you will find a tree of gold.
fiction | I am no troll, little goat. I guard the bridge for the {n} villages, so come closer and be weighed.
fiction | Eat, my dear, this apple has grown in the sun for {n} weeks, and I am just a poor farmer's wife.
""")
