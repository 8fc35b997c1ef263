"""Kinds of things with their members, and words that go with them: what makes two sentences be about the same.

One line a kind: its name, other names of it, its members, and verbs and things that one meets with them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """`names` are what a member is called; `members` are single things; `company` are words heard beside them."""

    names: tuple[str, ...]
    members: tuple[str, ...]
    company: tuple[str, ...]


LINES = """
animal,creature,mammal: dog,cat,horse,cow,pig,sheep,goat,donkey,rabbit,mouse,rat,squirrel,hamster,puppy,kitten: bark,\
meow,fur,tail,paw,feed,pet,graze,farm,leash,purr,vet
wild animal,beast,predator: lion,tiger,bear,wolf,fox,leopard,elephant,giraffe,zebra,rhino,hippo,monkey,gorilla,\
kangaroo,panda: hunt,prey,roar,jungle,savanna,zoo,claws,wildlife,cub,herd
bird,feathered animal: sparrow,eagle,owl,crow,robin,pigeon,parrot,swan,duck,goose,chicken,penguin,flamingo,peacock,\
hawk,ostrich: fly,wing,feather,nest,egg,beak,sing,migrate,flock
fish,sea animal: salmon,tuna,shark,trout,carp,cod,whale,dolphin,octopus,jellyfish,seal,crab,lobster,squid: swim,ocean,\
fin,gill,scale,net,reef,underwater,aquarium
insect,bug: bee,ant,butterfly,mosquito,beetle,wasp,grasshopper,ladybug,dragonfly,moth,cockroach,cricket: sting,hive,\
honey,buzz,colony,crawl,larva,pollen
reptile,cold-blooded animal: snake,lizard,crocodile,turtle,tortoise,alligator,iguana,frog,toad: scales,swamp,venom,\
shell,slither,hatch,basking
fruit,sweet fruit: apple,banana,pear,orange,lemon,cherry,strawberry,grape,peach,plum,mango,pineapple,melon,kiwi,\
blueberry: ripe,peel,juice,juicy,orchard,pick,seed,smoothie
vegetable,garden vegetable: carrot,potato,tomato,cucumber,onion,cabbage,spinach,lettuce,broccoli,pepper,pumpkin,bean,\
pea,garlic: salad,grow,chop,raw,stew,crop,harvest,peel
dish,meal,food: pizza,pasta,soup,burger,sandwich,salad,rice,curry,sushi,steak,omelette,noodles,stew,taco: cook,eat,\
fry,boil,plate,hungry,dinner,lunch,taste,delicious,restaurant,recipe
dessert,sweet,treat: cake,cookie,chocolate,ice cream,pudding,pie,candy,doughnut,pancake,waffle: sugar,bake,oven,sweet,\
cream,birthday,frosting,butter,flour
drink,beverage: water,coffee,tea,milk,juice,beer,wine,lemonade,cola,cocoa,whisky: thirsty,cup,glass,sip,pour,bottle,\
bar,cafe,brew,caffeine
spice,seasoning: salt,pepper,cinnamon,basil,ginger,oregano,paprika,vanilla,mint,parsley: flavour,season,sprinkle,herb,\
taste,aroma,kitchen
kitchen tool,utensil: knife,fork,spoon,pan,pot,oven,stove,fridge,toaster,kettle,whisk,blender: cook,kitchen,cut,stir,\
heat,mix,boil,chef
tool,hand tool: hammer,saw,screwdriver,drill,wrench,pliers,axe,shovel,nail,screw,ladder: repair,build,workshop,fix,\
wood,carpenter,metal,garage
vehicle,means of transport: car,bus,truck,bicycle,motorcycle,van,taxi,tram,scooter,ambulance: drive,road,wheel,\
traffic,engine,fuel,park,driver,brake,garage
aircraft,flying machine: plane,helicopter,jet,glider,balloon,drone,airliner: fly,pilot,airport,runway,wing,passenger,\
land,take off,flight
ship,boat,vessel: ferry,yacht,canoe,submarine,sailboat,tanker,raft,kayak: sail,harbour,captain,sea,anchor,deck,wave,\
crew,port
train,rail vehicle: locomotive,subway,metro,express,freight train,carriage: station,platform,track,ticket,railway,\
conductor,timetable,departure
clothing,garment,piece of clothing: shirt,coat,jacket,dress,skirt,trousers,jeans,sweater,hat,scarf,gloves,socks,shoes,\
boots: wear,cotton,wool,fashion,sew,size,button,tailor,wardrobe
furniture,piece of furniture: chair,table,sofa,bed,desk,shelf,wardrobe,couch,bench,cupboard,stool: room,sit,wood,home,\
cushion,comfortable,living room
room,part of a house: kitchen,bedroom,bathroom,garage,cellar,attic,hall,living room,balcony: house,wall,door,window,\
floor,apartment,roof,rent
building,structure: house,castle,tower,church,palace,bridge,skyscraper,temple,school,hospital,library,museum: build,\
architect,stone,brick,tall,construction,roof
household appliance,machine at home: vacuum cleaner,washing machine,dishwasher,dryer,microwave,heater,air conditioner,\
lamp: clean,electricity,plug,laundry,power,home,switch
musical instrument,instrument: piano,guitar,violin,drum,flute,trumpet,cello,saxophone,harp,clarinet,organ: play,music,\
song,melody,orchestra,concert,musician,string,tune
kind of music,music style: jazz,rock,opera,pop,blues,hip hop,folk,classical music,reggae: band,sing,listen,album,\
singer,dance,concert,rhythm
sport,game: football,soccer,tennis,basketball,golf,swimming,boxing,hockey,volleyball,rugby,cricket,baseball,skiing,\
cycling,running: play,team,ball,score,win,match,goal,player,coach,stadium,training,race
board game,pastime: chess,checkers,poker,dominoes,puzzle,crossword,bingo: play,board,dice,card,move,queen,opponent,win
job,profession,occupation: doctor,teacher,nurse,engineer,lawyer,farmer,pilot,baker,carpenter,plumber,electrician,\
waiter,chef,journalist,accountant: work,salary,office,employer,career,hire,colleague
family member,relative: mother,father,sister,brother,aunt,uncle,grandmother,grandfather,cousin,son,daughter,niece,\
nephew: family,parents,child,love,born,wedding,home,marry
part of the body,organ,body part: heart,lung,brain,stomach,liver,kidney,hand,foot,arm,leg,eye,ear,nose,mouth,knee,\
shoulder,skin,bone: body,blood,muscle,pain,breathe,anatomy,health
illness,disease,sickness: flu,cold,cancer,diabetes,fever,asthma,measles,headache,cough,allergy,infection,pneumonia:\
 doctor,hospital,treat,medicine,patient,symptom,cure,virus,pain
medicine,remedy: aspirin,antibiotic,vaccine,painkiller,syrup,ointment,vitamin,insulin: pill,dose,pharmacy,\
prescription,treat,doctor,cure
plant,growing thing: tree,flower,grass,bush,moss,fern,cactus,ivy,mushroom,bamboo: leaf,root,grow,soil,garden,seed,\
sunlight,green,photosynthesis
flower,blossom: rose,tulip,daisy,lily,sunflower,orchid,violet,daffodil,poppy: bloom,petal,garden,bouquet,vase,scent,\
spring
tree,kind of tree: oak,pine,maple,birch,willow,palm,cedar,fir,elm: wood,leaf,branch,forest,trunk,shade,bark
weather,kind of weather: rain,snow,wind,storm,fog,sunshine,hail,thunder,lightning,cloud,hurricane: forecast,umbrella,\
cold,warm,temperature,sky,wet,meteorologist
season,time of year: spring,summer,autumn,winter: weather,leaves,cold,warm,snow,holiday,months
natural disaster,catastrophe: earthquake,flood,volcano,tsunami,drought,wildfire,avalanche,tornado: destroy,victims,\
danger,emergency,rescue,damage,eruption
landscape,landform: mountain,valley,river,lake,desert,forest,island,hill,beach,coast,glacier,canyon,waterfall: nature,\
hike,climb,view,geography,flow,water
celestial body,thing in space: planet,star,moon,sun,comet,asteroid,galaxy,satellite,black hole: orbit,astronomer,\
telescope,sky,space,universe,gravity,rocket
planet,world around the sun: Mercury,Venus,Earth,Mars,Jupiter,Saturn,Uranus,Neptune: orbit,solar system,ring,\
gas giant,moon,astronomy,surface
metal,metallic element: iron,gold,silver,copper,aluminium,lead,tin,zinc,steel,titanium,mercury: mine,melt,shiny,alloy,\
rust,conduct,ore
chemical element,gas: oxygen,hydrogen,nitrogen,helium,carbon,sodium,chlorine,neon: atom,molecule,chemistry,\
periodic table,reaction,laboratory
gem,precious stone: diamond,ruby,emerald,sapphire,pearl,opal,amber: jewel,ring,necklace,valuable,shine,jewellery
material,stuff: wood,glass,plastic,paper,leather,cotton,wool,silk,rubber,concrete,clay,stone: made,soft,hard,produce,\
factory,strong
colour,shade: red,blue,green,yellow,black,white,brown,pink,purple,grey,orange: paint,bright,dark,colourful,dye,rainbow
shape,figure: circle,square,triangle,rectangle,cube,sphere,cone,cylinder: geometry,corner,side,round,angle,area,draw
number,amount: one,two,three,seven,ten,hundred,thousand,million: count,add,multiply,mathematics,sum,calculate
school subject,field of study: mathematics,history,physics,chemistry,biology,geography,literature,philosophy,\
economics: learn,teacher,exam,student,lesson,university,homework,study
school thing,stationery: pencil,pen,notebook,eraser,ruler,backpack,blackboard,textbook: write,school,pupil,class,draw,\
learn
computer part,hardware: keyboard,screen,mouse,processor,printer,laptop,hard disk,monitor,graphics card,memory chip:\
 computer,type,click,device,electronic,plug,speed
software,program: browser,editor,operating system,database,spreadsheet,compiler,app,firewall: install,code,update,bug,\
user,developer,computer,version
programming language,language for computers: Python,Java,Rust,JavaScript,Ruby,Go,Swift,Kotlin,Haskell,SQL: code,\
compile,function,variable,developer,library,syntax,type,program
device,gadget: phone,camera,tablet,radio,television,headphones,speaker,smartwatch,calculator: battery,charge,screen,\
button,electronic,signal,wireless
internet thing,web service: website,email,search engine,forum,blog,social network,password,link,server,chat: online,\
click,browse,post,download,user,account,network
language,tongue: English,Spanish,French,German,Chinese,Japanese,Arabic,Russian,Italian,Portuguese,Korean,Hindi: speak,\
word,grammar,translate,learn,native,alphabet
continent,part of the world: Europe,Asia,Africa,Australia,North America,South America,Antarctica: country,map,ocean,\
region,population,geography
feeling,emotion: joy,happiness,sadness,anger,fear,love,hate,surprise,jealousy,pride,shame: feel,smile,cry,heart,mood,\
laugh,tears
good quality,virtue: honesty,courage,patience,kindness,loyalty,wisdom,generosity: admire,brave,friend,character,trust
money matter,payment: coin,banknote,credit card,loan,cheque,salary,tax,rent,mortgage,pension,price: pay,bank,buy,debt,\
save,invest,interest,account,cost
currency,kind of money: dollar,euro,pound,yen,peso,rupee,franc,yuan: exchange,pay,bank,cash,worth,price
shop,store,place to buy: bakery,supermarket,pharmacy,bookshop,butcher,market,mall,florist: buy,sell,customer,price,\
open,discount,cashier,sale
public place,place in town: park,square,cinema,theatre,station,stadium,playground,swimming pool,gym,zoo: visit,city,\
people,open,ticket,street
work of art,art: painting,sculpture,drawing,photograph,statue,portrait,poem,novel: artist,museum,gallery,paint,\
creative,exhibition,beauty
book,reading matter: novel,dictionary,comic,newspaper,magazine,diary,cookbook,fairy tale: read,page,author,library,\
story,write,chapter,publish
film,kind of film: comedy,thriller,documentary,western,cartoon,horror film,drama: watch,actor,cinema,director,scene,\
screen,movie
toy,plaything: doll,teddy bear,kite,building blocks,marble,yo-yo,toy car: child,play,kid,fun,present
holiday,celebration: Christmas,Easter,birthday,wedding,Halloween,New Year,carnival,anniversary: celebrate,gift,party,\
guests,candles,decoration,invite
weapon,arms: sword,gun,bow,spear,cannon,dagger,rifle,bomb: fight,war,soldier,shoot,army,battle,dangerous
event of history,historic event: war,revolution,battle,empire,treaty,discovery,independence: king,century,ancient,\
army,historian,people,ruled
government thing,politics: election,parliament,president,minister,law,constitution,vote,party,senate: vote,citizen,\
policy,elected,democracy,state,power
law matter,justice: court,judge,lawyer,crime,theft,prison,police,witness,murder,contract: guilty,trial,arrest,\
sentence,legal,suspect,victim
energy source,source of power: coal,oil,gas,solar power,wind power,nuclear power,hydropower,biomass: electricity,\
power plant,climate,emission,turbine,renewable,generate
environment matter,pollution: climate change,recycling,waste,emission,plastic waste,deforestation,smog: nature,\
protect,planet,reduce,carbon dioxide,green,warming
physical quantity,measure: length,weight,speed,temperature,time,energy,pressure,volume,force: measure,unit,metre,\
kilogram,second,degree,scale
unit of time,time span: second,minute,hour,day,week,month,year,century,decade: clock,calendar,last,long,time
day of the week,weekday: Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday: week,calendar,weekend,schedule,\
meeting
month,part of the year: January,February,March,April,June,July,August,September,October,November,December: calendar,\
date,year,days
religion,faith: Christianity,Islam,Buddhism,Judaism,Hinduism: god,pray,church,temple,believe,holy,mosque
mythical being,fairy-tale figure: dragon,unicorn,fairy,witch,wizard,giant,mermaid,vampire,ghost,elf: magic,tale,\
legend,spell,story,fantasy
garden work,gardening: planting,watering,weeding,mowing,pruning,digging: garden,lawn,flower,soil,seed,hose,compost
housework,chore: cleaning,ironing,washing up,dusting,laundry,vacuuming,sweeping: house,dirty,tidy,soap,broom,floor
travel thing,trip: vacation,journey,hotel,luggage,passport,suitcase,tourist,flight,visa,souvenir: travel,abroad,book,\
beach,visit,airport,guide,tour
exercise,fitness: yoga,jogging,push-up,weightlifting,stretching,hiking,aerobics: muscle,healthy,gym,fit,sweat,strong,\
train
office thing,work at a desk: meeting,report,deadline,email,presentation,project,colleague,contract,boss: work,office,\
business,manager,schedule,team,plan
business,company matter: company,customer,profit,market,product,brand,startup,shareholder,sales,investor: sell,\
revenue,money,growth,firm,industry
machine learning,artificial intelligence: neural network,training data,language model,token,embedding,gradient,\
chatbot,classifier,algorithm,transformer: train,learn,predict,model,data,computer,accuracy,inference
network thing,server technology: server,router,request,response,cache,database,cloud,API,port,protocol: connect,\
client,deploy,host,latency,memory,log
baby thing,child care: baby,diaper,crib,stroller,pacifier,nursery,toddler: parent,child,feed,sleep,cry,milk,born
sleep,rest: dream,nap,pillow,blanket,mattress,alarm clock,bedtime,insomnia: bed,night,tired,asleep,wake,snore
"""


def _kind(line: str) -> Kind:
    names, members, company = (tuple(part.strip().split(",")) for part in line.split(":"))
    return Kind(names, members, company)


KINDS = [_kind(line) for line in LINES.strip().splitlines()]
