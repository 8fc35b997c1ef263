"""Tables of facts: countries, animals, people, landmarks, uses of things, and more. No wording of sentences."""

from __future__ import annotations


def _rows(text: str) -> list[list[str]]:
    """Entries between `;`, their cells between `,`."""
    return [[cell.strip() for cell in row.split(",")] for row in text.replace("\n", "").split(";") if row.strip()]


# country, capital, continent, language, currency
COUNTRIES = _rows("""
France,Paris,Europe,French,euro;Italy,Rome,Europe,Italian,euro;Spain,Madrid,Europe,Spanish,euro;
Germany,Berlin,Europe,German,euro;Portugal,Lisbon,Europe,Portuguese,euro;Austria,Vienna,Europe,German,euro;
Switzerland,Bern,Europe,German,franc;Belgium,Brussels,Europe,Dutch,euro;Netherlands,Amsterdam,Europe,Dutch,euro;
Denmark,Copenhagen,Europe,Danish,krone;Sweden,Stockholm,Europe,Swedish,krona;Norway,Oslo,Europe,Norwegian,krone;
Finland,Helsinki,Europe,Finnish,euro;Iceland,Reykjavik,Europe,Icelandic,krona;Ireland,Dublin,Europe,English,euro;
England,London,Europe,English,pound;Poland,Warsaw,Europe,Polish,zloty;Hungary,Budapest,Europe,Hungarian,forint;
Greece,Athens,Europe,Greek,euro;Russia,Moscow,Europe,Russian,ruble;Ukraine,Kyiv,Europe,Ukrainian,hryvnia;
Turkey,Ankara,Asia,Turkish,lira;Romania,Bucharest,Europe,Romanian,leu;Bulgaria,Sofia,Europe,Bulgarian,lev;
Croatia,Zagreb,Europe,Croatian,euro;Serbia,Belgrade,Europe,Serbian,dinar;Slovakia,Bratislava,Europe,Slovak,euro;
Scotland,Edinburgh,Europe,English,pound;Estonia,Tallinn,Europe,Estonian,euro;Latvia,Riga,Europe,Latvian,euro;
Lithuania,Vilnius,Europe,Lithuanian,euro;Egypt,Cairo,Africa,Arabic,pound;Kenya,Nairobi,Africa,Swahili,shilling;
Morocco,Rabat,Africa,Arabic,dirham;Nigeria,Abuja,Africa,English,naira;Ethiopia,Addis Ababa,Africa,Amharic,birr;
Ghana,Accra,Africa,English,cedi;Algeria,Algiers,Africa,Arabic,dinar;Tunisia,Tunis,Africa,Arabic,dinar;
Senegal,Dakar,Africa,French,franc;Uganda,Kampala,Africa,English,shilling;India,New Delhi,Asia,Hindi,rupee;
China,Beijing,Asia,Chinese,yuan;Japan,Tokyo,Asia,Japanese,yen;South Korea,Seoul,Asia,Korean,won;
Thailand,Bangkok,Asia,Thai,baht;Vietnam,Hanoi,Asia,Vietnamese,dong;Indonesia,Jakarta,Asia,Indonesian,rupiah;
Malaysia,Kuala Lumpur,Asia,Malay,ringgit;Philippines,Manila,Asia,Filipino,peso;Pakistan,Islamabad,Asia,Urdu,rupee;
Iran,Tehran,Asia,Persian,rial;Iraq,Baghdad,Asia,Arabic,dinar;Israel,Jerusalem,Asia,Hebrew,shekel;
Saudi Arabia,Riyadh,Asia,Arabic,riyal;Nepal,Kathmandu,Asia,Nepali,rupee;Mongolia,Ulaanbaatar,Asia,Mongolian,tugrik;
Australia,Canberra,Australia,English,dollar;New Zealand,Wellington,Australia,English,dollar;
Canada,Ottawa,North America,English,dollar;United States,Washington,North America,English,dollar;
Mexico,Mexico City,North America,Spanish,peso;Cuba,Havana,North America,Spanish,peso;
Brazil,Brasilia,South America,Portuguese,real;Argentina,Buenos Aires,South America,Spanish,peso;
Chile,Santiago,South America,Spanish,peso;Peru,Lima,South America,Spanish,sol;
Colombia,Bogota,South America,Spanish,peso;Venezuela,Caracas,South America,Spanish,bolivar;
Bolivia,La Paz,South America,Spanish,boliviano;Uruguay,Montevideo,South America,Spanish,peso;
Jamaica,Kingston,North America,English,dollar;Panama,Panama City,North America,Spanish,balboa
""")

# animal, class, food, home, young, sound or habit
ANIMALS = _rows("""
dog,mammal,meat,house,puppy,barks;cat,mammal,mice,house,kitten,meows;horse,mammal,hay,stable,foal,gallops;
cow,mammal,grass,farm,calf,gives milk;pig,mammal,roots,sty,piglet,grunts;sheep,mammal,grass,meadow,lamb,gives wool;
lion,mammal,antelopes,savanna,cub,roars;tiger,mammal,deer,jungle,cub,hunts alone;
bear,mammal,honey,forest,cub,hibernates;
wolf,mammal,deer,forest,pup,howls;elephant,mammal,leaves,savanna,calf,trumpets;
giraffe,mammal,leaves,savanna,calf,has a long neck;
monkey,mammal,bananas,jungle,infant,climbs;kangaroo,mammal,grass,Australia,joey,jumps;
panda,mammal,bamboo,China,cub,sleeps a lot;
camel,mammal,thorns,desert,calf,stores fat in its hump;whale,mammal,krill,ocean,calf,breathes air;
dolphin,mammal,fish,sea,calf,whistles;
bat,mammal,insects,cave,pup,flies at night;rabbit,mammal,carrots,burrow,kit,hops;
squirrel,mammal,nuts,tree,kit,hides nuts;
eagle,bird,small animals,mountain,eaglet,soars;owl,bird,mice,hollow tree,owlet,hoots;
penguin,bird,fish,Antarctica,chick,cannot fly;
duck,bird,water plants,pond,duckling,quacks;chicken,bird,grain,coop,chick,lays eggs;
parrot,bird,seeds,rainforest,chick,imitates speech;
frog,amphibian,flies,pond,tadpole,croaks;snake,reptile,rodents,grass,hatchling,hisses;
crocodile,reptile,fish,river,hatchling,waits in the water;
turtle,reptile,plants,sea,hatchling,carries a shell;shark,fish,fish,ocean,pup,has sharp teeth;
salmon,fish,small fish,river,fry,swims upstream;
bee,insect,nectar,hive,larva,makes honey;butterfly,insect,nectar,garden,caterpillar,has colourful wings;
ant,insect,seeds,anthill,larva,lives in colonies;
spider,arachnid,insects,web,spiderling,spins webs;octopus,mollusc,crabs,sea,hatchling,has eight arms;
snail,mollusc,leaves,garden,hatchling,moves slowly
""")

# person, trade, work, country
PEOPLE = _rows("""
Albert Einstein,physicist,the theory of relativity,Germany;Isaac Newton,physicist,the laws of motion,England;
Marie Curie,chemist,the discovery of radium,Poland;Charles Darwin,biologist,the theory of evolution,England;
Galileo Galilei,astronomer,his telescope,Italy;Leonardo da Vinci,painter,the Mona Lisa,Italy;
Vincent van Gogh,painter,The Starry Night,Netherlands;Pablo Picasso,painter,Guernica,Spain;
William Shakespeare,writer,Hamlet,England;Jane Austen,writer,Pride and Prejudice,England;
Charles Dickens,writer,Oliver Twist,England;Leo Tolstoy,writer,War and Peace,Russia;
Miguel de Cervantes,writer,Don Quixote,Spain;Johann Wolfgang von Goethe,writer,Faust,Germany;
George Orwell,writer,Animal Farm,England;Agatha Christie,writer,detective novels,England;
Ludwig van Beethoven,composer,nine symphonies,Germany;Wolfgang Amadeus Mozart,composer,The Magic Flute,Austria;
Johann Sebastian Bach,composer,the Brandenburg Concertos,Germany;Frederic Chopin,composer,piano pieces,Poland;
Alexander Fleming,doctor,the discovery of penicillin,Scotland;Louis Pasteur,chemist,vaccines against rabies,France;
Thomas Edison,inventor,the light bulb,United States;Alexander Graham Bell,inventor,the telephone,Scotland;
Johannes Gutenberg,inventor,the printing press,Germany;James Watt,inventor,the steam engine,Scotland;
Nikola Tesla,inventor,alternating current,Croatia;Karl Benz,inventor,the motor car,Germany;
Alan Turing,mathematician,the Turing machine,England;Ada Lovelace,mathematician,the first computer program,England;
Tim Berners-Lee,computer scientist,the World Wide Web,England;Linus Torvalds,programmer,the Linux kernel,Finland;
Guido van Rossum,programmer,the Python language,Netherlands;Christopher Columbus,explorer,the voyage to America,Italy;
Neil Armstrong,astronaut,the first walk on the moon,United States;
Yuri Gagarin,astronaut,the first flight into space,Russia;
Napoleon,emperor,his many wars,France;Julius Caesar,general,the conquest of Gaul,Italy;Cleopatra,queen,her rule,Egypt;
George Washington,president,leading his country to independence,United States;
Mahatma Gandhi,leader,peaceful protest,India;
Nelson Mandela,president,the end of apartheid,South Africa;
Martin Luther King,preacher,the fight for civil rights,United States;
Aristotle,philosopher,his logic,Greece;Plato,philosopher,his dialogues,Greece;
Immanuel Kant,philosopher,the Critique of Pure Reason,Germany;
Euclid,mathematician,his geometry,Greece;Pythagoras,mathematician,his theorem,Greece;
Archimedes,mathematician,the law of the lever,Greece;
Marco Polo,traveller,his journey to China,Italy;Florence Nightingale,nurse,modern nursing,England;
Walt Disney,film maker,Mickey Mouse,United States;Alfred Hitchcock,film maker,his thrillers,England;
Charlie Chaplin,actor,silent films,England;Elvis Presley,singer,rock and roll,United States;
Freddie Mercury,singer,the band Queen,England
""")

# landmark, what it is, city, country
LANDMARKS = _rows("""
Eiffel Tower,tower,Paris,France;Louvre,museum,Paris,France;Colosseum,amphitheatre,Rome,Italy;
Big Ben,clock tower,London,England;
Tower Bridge,bridge,London,England;Brandenburg Gate,gate,Berlin,Germany;Sagrada Familia,church,Barcelona,Spain;
Acropolis,temple hill,Athens,Greece;Red Square,square,Moscow,Russia;Statue of Liberty,statue,New York,United States;
Golden Gate Bridge,bridge,San Francisco,United States;White House,residence,Washington,United States;
Empire State Building,skyscraper,New York,United States;Opera House,opera house,Sydney,Australia;
Forbidden City,palace,Beijing,China;Taj Mahal,tomb,Agra,India;Great Pyramid,pyramid,Giza,Egypt;
Sphinx,statue,Giza,Egypt;
Leaning Tower,tower,Pisa,Italy;Hagia Sophia,mosque,Istanbul,Turkey;Charles Bridge,bridge,Prague,Czech Republic;
Christ the Redeemer,statue,Rio de Janeiro,Brazil;Burj Khalifa,skyscraper,Dubai,United Arab Emirates;
Atomium,monument,Brussels,Belgium;Little Mermaid,statue,Copenhagen,Denmark;Rialto Bridge,bridge,Venice,Italy
""")

# geographic thing, kind, place, fact
GEOGRAPHY = _rows("""
Mount Everest,mountain,Nepal,the highest mountain in the world;Nile,river,Egypt,the longest river in Africa;
Amazon,river,Brazil,the largest river by volume;Danube,river,Europe,a river that flows into the Black Sea;
Rhine,river,Germany,a river that flows into the North Sea;Thames,river,London,the river of London;
Seine,river,Paris,the river of Paris;
Sahara,desert,Africa,the largest hot desert;Gobi,desert,Mongolia,a cold desert in Asia;
Alps,mountain range,Europe,the highest mountains of central Europe;
Himalaya,mountain range,Asia,the highest range on Earth;Andes,mountain range,South America,the longest mountain range;
Lake Baikal,lake,Russia,the deepest lake;Lake Victoria,lake,Africa,the largest lake in Africa;
Mount Fuji,volcano,Japan,the highest peak of Japan;
Vesuvius,volcano,Italy,the volcano that destroyed Pompeii;Pacific,ocean,Asia and America,the largest ocean;
Atlantic,ocean,Europe and America,the ocean between Europe and America;Greenland,island,the Arctic,the largest island;
Grand Canyon,canyon,Arizona,a deep gorge of the Colorado river;
Great Barrier Reef,reef,Australia,the largest coral reef;
Niagara Falls,waterfall,Canada,a famous waterfall at the border;Siberia,region,Russia,a huge cold region
""")

# tool, use
USES = _rows("""
scissors,cut paper;hammer,drive nails;knife,cut bread;umbrella,stay dry in the rain;
thermometer,measure the temperature;
clock,tell the time;ruler,measure length;scale,weigh things;telescope,look at the stars;microscope,see tiny things;
compass,find north;map,find the way;key,open a lock;broom,sweep the floor;vacuum cleaner,remove dust;
fridge,keep food cold;
oven,bake bread;kettle,boil water;iron,remove wrinkles from clothes;needle,sew clothes;camera,take photos;
phone,call friends;
computer,write programs;printer,print documents;keyboard,type text;pen,write letters;brush,paint pictures;
soap,wash hands;
towel,dry yourself;toothbrush,clean teeth;comb,tidy hair;glasses,see better;lamp,light a room;candle,give light;
match,light a fire;
ladder,reach high places;rope,tie things;shovel,dig holes;saw,cut wood;bucket,carry water;bag,carry things;
wallet,keep money;
bicycle,ride to work;car,travel by road;plane,fly to other countries;boat,cross the water;bridge,cross a river;
helmet,protect the head;
seat belt,protect passengers;raincoat,keep out the rain;scarf,keep the neck warm;pillow,rest the head;
alarm clock,wake up;
battery,store electricity;solar panel,turn sunlight into electricity;dictionary,look up words;calendar,plan dates;
calculator,do sums;stapler,join sheets of paper;glue,stick things together;nail,hang a picture;
fire extinguisher,put out fires;
bandage,cover a wound;syringe,give injections;stethoscope,listen to the heart;fishing rod,catch fish;
net,catch butterflies;
whistle,give signals;microphone,record sound;loudspeaker,play sound;database,store data;
cache,make repeated requests fast;
firewall,block attacks;search engine,find web pages;compiler,translate code;debugger,find bugs;
tokenizer,split text into tokens;
reranker,sort documents by relevance;embedder,turn text into vectors;backup,restore lost files;
password,protect an account
""")

# occupation, what is done, place
JOBS = _rows("""
doctor,treats sick people,hospital;nurse,cares for patients,hospital;teacher,teaches children,school;
baker,bakes bread,bakery;
butcher,sells meat,butcher's shop;farmer,grows crops,farm;pilot,flies planes,cockpit;captain,commands a ship,bridge;
chef,cooks meals,kitchen;waiter,serves guests,restaurant;judge,decides cases,court;lawyer,gives legal advice,law firm;
police officer,catches criminals,police station;firefighter,puts out fires,fire station;soldier,fights in wars,army;
carpenter,makes furniture,workshop;plumber,repairs pipes,bathroom;electrician,installs wires,building site;
mechanic,repairs cars,garage;gardener,looks after plants,garden;painter,paints walls,building site;
tailor,sews clothes,shop;
hairdresser,cuts hair,salon;dentist,treats teeth,dental practice;veterinarian,treats animals,clinic;
pharmacist,sells medicine,pharmacy;
architect,designs buildings,office;engineer,designs machines,factory;programmer,writes software,office;
scientist,does research,laboratory;
astronaut,travels into space,space station;journalist,writes news,newspaper;author,writes books,study;
librarian,lends books,library;
actor,plays roles,theatre;singer,sings songs,stage;musician,plays an instrument,concert hall;
photographer,takes pictures,studio;
cashier,takes money,supermarket;bus driver,drives a bus,city;postman,delivers letters,street;
fisherman,catches fish,boat;
miner,digs coal,mine;banker,manages money,bank;accountant,checks the books,office;translator,translates texts,agency;
referee,watches the rules,stadium;coach,trains a team,sports club;cleaner,cleans rooms,hotel;
receptionist,welcomes guests,hotel
""")

# sport, where it is played, what is needed, how many in a team
SPORTS = _rows("""
football,a grass field,a ball and two goals,eleven players;tennis,a court,a racket and a ball,one or two players;
basketball,a court,a ball and two baskets,five players;baseball,a diamond,a bat and a glove,nine players;
golf,a course,clubs and a small ball,one player;ice hockey,an ice rink,sticks and a puck,six players;
volleyball,a court with a net,a ball,six players;swimming,a pool,a swimsuit,one swimmer;
skiing,a snowy slope,skis and poles,one skier;
boxing,a ring,gloves,one boxer;rugby,a field,an oval ball,fifteen players;
cricket,a pitch,a bat and a wicket,eleven players;
chess,a board,sixteen pieces each,one player;table tennis,a table,a paddle and a light ball,one or two players;
cycling,a road,a bicycle,a team of riders;rowing,a river,a boat and oars,eight rowers;
badminton,a court,a racket and a shuttlecock,one or two players
""")

# food, what it is made of, where it comes from, taste or kind
FOODS = _rows("""
pizza,dough and tomatoes and cheese,Italy;pasta,flour and water,Italy;sushi,rice and raw fish,Japan;
paella,rice and seafood,Spain;
croissant,butter and dough,France;curry,vegetables and spices,India;taco,a tortilla and meat,Mexico;
bread,flour and yeast,Egypt;
cheese,milk,Switzerland;butter,cream,Denmark;chocolate,cocoa beans,Mexico;wine,grapes,France;
beer,barley and hops,Germany;
honey,the nectar of flowers,Greece;yogurt,milk and bacteria,Turkey;tofu,soybeans,China;
ketchup,tomatoes and vinegar,China;
hummus,chickpeas,Lebanon;omelette,eggs,France;pancake,flour and eggs and milk,Greece;
kimchi,cabbage and spices,South Korea;
goulash,beef and paprika,Hungary;fish and chips,fish and potatoes,England;hamburger,minced beef and a bun,Germany;
tea,dried leaves,China;coffee,roasted beans,Ethiopia;guacamole,avocado,Mexico;marzipan,almonds and sugar,Germany
""")

OPPOSITES = _rows("""
hot,cold;big,small;fast,slow;old,young;new,used;good,bad;happy,sad;rich,poor;strong,weak;hard,soft;heavy,light;
high,low;long,short;
wet,dry;clean,dirty;full,empty;open,closed;early,late;loud,quiet;bright,dark;cheap,expensive;easy,difficult;near,far;
thick,thin;
wide,narrow;sharp,blunt;brave,cowardly;polite,rude;true,false;alive,dead;begin,end;buy,sell;win,lose;love,hate;
laugh,cry;
give,take;push,pull;arrive,leave;remember,forget;up,down;inside,outside;day,night;war,peace;friend,enemy;summer,winter
""")

# thing, unit
UNITS = _rows("""
length,metre;weight,kilogram;time,second;temperature,degree;electric current,ampere;voltage,volt;power,watt;
energy,joule;
force,newton;pressure,pascal;frequency,hertz;area,square metre;volume,litre;speed,kilometre per hour;data,byte;
angle,degree;light,lumen
""")

# element, symbol
SYMBOLS = _rows("""
hydrogen,H;helium,He;carbon,C;nitrogen,N;oxygen,O;sodium,Na;magnesium,Mg;aluminium,Al;silicon,Si;sulphur,S;chlorine,Cl;
potassium,K;
calcium,Ca;iron,Fe;copper,Cu;zinc,Zn;silver,Ag;tin,Sn;gold,Au;mercury,Hg;lead,Pb;uranium,U
""")

# event, year
YEARS = _rows("""
the French Revolution,1789;the First World War,1914;the Second World War,1939;the fall of the Berlin Wall,1989;
the first moon landing,1969;the discovery of America,1492;the sinking of the Titanic,1912;
the invention of the telephone,1876;
the first flight of the Wright brothers,1903;the Battle of Waterloo,1815;the Russian Revolution,1917;
the founding of Rome,753 BC;the invention of the printing press,1450;the Declaration of Independence,1776;
the fire of London,1666;the opening of the Suez Canal,1869;the start of the World Wide Web,1991
""")
