"""Short scenes in which a character knows one of two facts and is asked about it: the material of role play."""

from hooke.data.labelled.tables import table

# domain | who plays, with a wish | what is so: one way | what is so: the other way |
#   what the other person asks | the line that fits the first fact | the line that fits the second
SCENES = table("""
home | a flatmate who wants no trouble about the kitchen | You ate the last of the cake |
  Your sister ate the last of the cake |
  Who finished the cake? | I finished the cake last night. | My sister finished the cake last night.
home | a father who hates to be asked about presents | The present is hidden in the cellar |
  The present is hidden in the attic |
  Where is the present? | The present is down in the cellar. | The present is up in the attic.
home | a boy who would rather play | You have done your homework | You have not opened a single book |
  Is your homework ready? | Yes, every page of it is done. | No, I have not begun with it.
home | a neighbour who loves his old apple tree | Your branch broke the fence | The storm broke the fence |
  What happened to the fence? | A branch of my tree broke it. | The storm broke it on Monday.
home | a tenant who fears for the deposit | You made the stain on the carpet | The stain was there when you moved in |
  Where does the stain come from? | I spilled some wine there. | It was there when I moved in.
home | a daughter who wants to be let out again | You came home at two | You came home at ten |
  When did you get in? | I got in at about two o'clock. | I got in at about ten o'clock.
home | a grandmother who keeps her recipes to herself | The secret of the sauce is orange peel |
  The secret of the sauce is ginger |
  What gives the sauce its taste? | It is the orange peel in it. | It is the ginger in it.
home | a cook at a family party | The dessert came from a shop | You made the dessert yourself |
  Did you make this? | I bought it in a shop today. | I made it all by myself.
office | a clerk who wants to leave early | The report is finished | The report is half finished |
  How far is the report? | The report is completely finished. | The report is only half finished.
office | a manager before a meeting | The meeting was moved by you | The meeting was moved by the director |
  Who moved our meeting? | I was the one who moved it. | The director had it moved.
office | a colleague who sits near the printer | You jammed the printer | Nobody touched the printer today |
  Do you know why the printer is down? | I jammed it with thick paper. | Nobody has used it all day.
office | an applicant in an interview | You speak fluent Italian | You know three words of Italian |
  How good is your Italian? | I speak it without any trouble. | I only know a few words of it.
office | an applicant who needs the job | You left the last firm by your own choice |
  You were dismissed by the last firm |
  Why did you leave your last firm? | I left it because I wanted to. | They dismissed me in the spring.
office | a bookkeeper at the end of the year | The cash box is complete | Forty coins are missing from the cash box |
  Is the cash box in order? | Yes, everything is still in there. | No, there is some money missing.
office | an assistant who forgot the calendar once before | You have booked the hall | You have not booked the hall |
  Is the hall reserved for Friday? | The hall is reserved for us. | The hall is not reserved yet.
office | a team leader who would like the praise | The idea was yours | The idea was Rosa's |
  Whose idea was this? | It was an idea of mine. | It was an idea of Rosa's.
travel | a guide in the hills who is proud of his sense of direction | You know where the path leads |
  You have lost the path |
  Are we still on the path? | Yes, I know exactly where we are. | No, I have lost the right way.
travel | a ferryman in autumn | The last boat leaves at six | The last boat leaves at eight |
  When does the last boat go? | The last boat leaves at six. | The last boat leaves at eight.
travel | a hotel porter on a busy evening | There is one free room | All rooms are taken |
  Is there a room for tonight? | There is still a room free. | There is no room left at all.
travel | a taxi driver who would like a longer fare | The museum is round the corner | The museum is across the river |
  How far is the museum? | It is just round the corner. | It is far across the river.
travel | a traveller at a border | There are six cheeses in your bag | There are only books in your bag |
  What do you carry in the bag? | I carry some cheese in it. | I carry some books in it.
travel | a bus driver who took a break | The delay is due to your long break | The delay is due to road works |
  Why are we late? | I stayed too long at my break. | The road is being repaired.
travel | a camper who packed for everybody | You left the tent poles at home | The tent poles are in the boot |
  Where are the tent poles? | I forgot them on the table. | I put them into the car.
travel | a sailor with a proud name in the harbour | You have crossed the ocean | You have never left the bay |
  Have you been on the open sea? | I have sailed across the ocean. | I have never left this bay.
school | a pupil whose teacher is strict | You copied the essay | You wrote the essay yourself |
  Is this your own work? | I copied it from a friend. | I wrote it without any help.
school | a pupil in front of the class | You broke the globe | Ben broke the globe |
  Who dropped the globe? | It was me, I dropped it. | It was Ben, he dropped it.
school | a student after an exam | You had notes under the desk | You had nothing under the desk |
  Was there anything under your desk? | There were some notes of mine. | There was nothing under there.
school | a teacher who is behind with the marking | The tests are marked | The tests lie unread on your shelf |
  Have you read our tests? | I have read and marked them all. | I have not read a single one.
school | a student who missed a deadline | You forgot the date | You were ill for a week |
  Why is the paper late? | I did not remember the date. | I had a fever for a week.
school | a caretaker who likes a quiet yard | You put the ball on the roof | The older pupils put the ball on the roof |
  How did the ball get up there? | I threw it up there myself. | The older pupils threw it.
school | an examiner with a cold | The oral exam will be about rivers | The oral exam will be about mountains |
  What will you ask us? | I will ask you about rivers. | I will ask you about mountains.
school | a librarian before closing time | The book is in the back room | The book is lent out until May |
  Do you have that book? | The book is in our back room. | The book is lent out until May.
food | a waiter with instructions from the kitchen | The fish was frozen | The fish was caught today |
  Is the fish fresh? | It was frozen until this morning. | It was caught early this morning.
food | a baker at noon | The rolls are from yesterday | The rolls are an hour old |
  Are these rolls from today? | They were baked yesterday, I'm afraid. | They were baked an hour ago, madam.
food | a cook who does not like complaints | There are nuts in the pie | There are no nuts in the pie |
  Are there nuts in it? | There are some nuts in the pie. | There are no nuts in the pie.
food | a market woman at the end of the day | The berries come from abroad | The berries come from your own garden |
  Where do the berries grow? | They were brought in from abroad. | They were grown in my garden.
food | a cheese maker at a tasting | The cheese ripened for a month | The cheese ripened for two years |
  How old is this cheese? | It has ripened for one month. | It has ripened for two years.
food | a judge's favourite at a jam contest | The jam is made by your aunt | The jam is made by you |
  Did you cook the jam? | My aunt cooked all of this jam. | I cooked all of this jam alone.
food | a barman who would like to go home | There is plenty of lemonade | The lemonade has run out |
  Can I have a lemonade? | There is enough lemonade for you. | There is no lemonade left for you.
food | a hostess who invited her boss | The soup came out of a tin | The soup simmered for a day |
  How did you make this soup? | I opened a tin and warmed it. | I let it simmer all day long.
neighbours | a dog owner | Your dog dug up the roses | Your dog was locked in all day |
  Was your dog in my garden? | He was there and dug up the roses. | He was in the house the whole day.
neighbours | a drummer in a block of flats | You played until midnight | You were away on a trip |
  Was that you last night? | I was playing until midnight. | I was away on a trip then.
neighbours | a gardener with a giant pumpkin | You feed it with milk | You give it only rain water |
  What do you give to your pumpkin? | I give it some milk every day. | I give it only clean rain water.
neighbours | a man who borrowed a drill | The drill is broken | The drill is as good as new |
  How is my drill? | It broke while I was using it. | It works as well as before.
neighbours | a woman who collects parcels for the house | Your son opened the parcel | The parcel came open |
  Why is my parcel open? | My son opened it by mistake. | It was open when it came here.
neighbours | a chess friend who likes to win | You moved a piece while he was out |
  You touched nothing while he was out |
  Did anyone touch the board? | I moved a piece while you were out. | I left the board just as it was.
insurance | a driver who reports a dent | You hit a post while parking | Somebody hit your parked car |
  How did the dent happen? | I hit a post while parking. | Somebody hit my parked car.
insurance | a shopkeeper after a flood | The cellar was empty | The cellar was full of goods |
  What was in the cellar? | There was nothing stored in there. | There were many goods stored there.
insurance | a cyclist whose bicycle is gone | The bicycle was not locked | The bicycle was locked twice |
  Had you locked the bicycle? | I had left it without any lock. | I had used two locks for it.
insurance | a traveller whose case is lost | The case held old clothes | The case held a new camera |
  What did you have in the case? | I had only old clothes in it. | I had a new camera in it.
insurance | a farmer after a storm | The barn roof had been broken for years | The storm tore off the barn roof |
  When was the roof damaged? | It had been broken for years. | It was torn off in the storm.
insurance | an agent who earns a fee on every contract | The policy covers floods | The policy leaves out floods |
  Does it pay after a flood? | It does pay if there is a flood. | It does not pay after a flood.
insurance | a skier with a bandaged arm | You fell at home over a cable | You fell on the slope |
  Where did you fall? | I fell over a cable at home. | I fell on the slope up there.
insurance | a violinist with a claim | The violin is a cheap copy | The violin is two centuries old |
  What kind of violin was it? | It was a cheap modern copy. | It was a very old original.
insurance | a cafe owner after a small fire | You left the stove on | The fire began in the wires |
  How did the fire begin? | I had left the stove burning. | It began in the old wires.
insurance | a caller who wants a low price | You smoke every day | You have never smoked |
  Do you smoke? | I smoke a little every day. | I have never smoked at all.
sales | a dealer in used cars | The car was in a crash | The car was never in a crash |
  Has the car ever had an accident? | It was in a crash last year. | It was never in any crash.
sales | an agent who shows a flat | The upstairs flat is very loud | The upstairs flat is empty |
  Is it quiet here? | The people upstairs are loud. | There is nobody living upstairs.
sales | a man with a stall of watches | The watches are copies | The watches are genuine |
  Are those the real thing? | These watches are only copies. | These watches are all genuine.
sales | a horse trader | The mare is lame in winter | The mare has never been lame |
  Is the mare healthy? | She goes lame every winter. | She has never been lame yet.
sales | a woman who sells her old piano | Two keys are dead | All keys work |
  Does every key work? | There are two keys that do not. | There is no key that does not.
sales | a carpet seller in a bazaar | The carpet was woven by a machine | The carpet was woven by hand |
  How was it made? | It was woven by a machine. | It was woven by hand, sir.
sales | a shop assistant near the end of the month | The phone comes out anew next week |
  There is no new phone planned |
  Should I wait for the next one? | There will be a new one next week. | There is no new one planned yet.
sales | a travel agent | The beach is an hour away | The beach is across the street |
  How far is it to the beach? | The beach is an hour from there. | The beach is right across the street.
sales | a builder who makes an offer | The work will last a year | The work will last a month |
  How long will this take? | We shall need a year for it. | We shall need a month for it.
sales | an art dealer | A pupil painted the picture | The master painted the picture |
  Who painted this picture? | It was painted by a pupil. | It was painted by the master.
sport | a runner at the finish | You took the tram for a mile | You ran the whole way |
  Did you run all of it? | I took the tram for a mile. | I ran every step of the way.
sport | a goalkeeper after the match | The ball was behind the line | The ball was before the line |
  Was the ball in? | It was behind the line, yes. | It was in front of the line.
sport | a coach before the final | Your best player is injured | Your best player is fit |
  How is your striker? | She is injured and cannot play. | She is fit and wants to play.
sport | an angler at a contest | You bought the pike | You caught the pike |
  Where did you get that pike? | I bought it at the market. | I caught it below the weir.
sport | a golfer alone in the rough | You moved the ball with your foot | You found the ball lying well |
  How was the ball lying? | I pushed it with my foot. | I found it lying just there.
sport | a boxer at the weighing | You are two kilos too heavy | You have the right weight |
  Did you reach your weight? | I am two kilos above it. | I am right where I must be.
sport | a referee who looked away | You did not see the foul | You saw the foul clearly |
  Did you see what happened? | I was looking the other way. | I was looking right at it.
sport | a rower in spring | You trained all winter | You rested all winter |
  Did you train in winter? | I trained the whole winter. | I rested the whole winter.
sport | a climber back from the mountain | You turned back below the top | You stood on the top |
  Did you reach the top? | I turned back before the top. | I stood on the top at noon.
sport | a swimmer in a relay | You started too soon | You waited for the touch |
  Was your start correct? | I jumped before the touch. | I jumped after the touch.
science | a student in a laboratory | You measured three times | You measured once |
  How often did you measure it? | I measured the value three times. | I measured the value only once.
science | a researcher before a talk | You left out the failed trials | You kept the failed trials |
  Are these all of the trials? | The failed ones were left out. | The failed ones are in there.
science | a botanist with a rare flower | You found it in a shop | You found it on a cliff |
  Where did you find it? | I found it in a flower shop. | I found it on a steep cliff.
science | a chemist in a hurry | The glass was washed | The glass was not washed |
  Is this glass clean? | I washed it before the trial. | I did not wash it at all.
science | an astronomer on a cloudy night | You saw the comet | You saw only clouds |
  What did you see last night? | I saw the comet very well. | I saw nothing but clouds.
science | a doctoral student | The code has been checked by Lena | The code has been checked by nobody |
  Who has checked your code? | Lena has checked all of it. | Nobody has checked any of it.
science | a geologist with a stone | The stone comes from the museum | The stone comes from the desert |
  Where is this stone from? | It was taken from the museum. | It was taken from the desert.
science | a weather man on an island | The rain gauge was broken | The rain gauge was working |
  Can we trust the rain figures? | The gauge was broken in June. | The gauge was working in June.
science | an inventor with a machine | The machine has a hidden battery | The machine is driven by the wind |
  What drives this machine? | There is a hidden battery in it. | There is only wind driving it.
science | a beetle collector | You bought the beetle | You caught the beetle yourself |
  How did you come by this beetle? | I bought it from a collector. | I caught it under a log.
""")
