"""Questions and answers of science, history, the world, computers and this server; written as in `everyday`."""

from __future__ import annotations

LINES = """
Why is the sky blue?;colour of the sky;what makes the sky look blue?;What is the reason for the blue of the sky? =>\
 Air scatters blue light more than red light.;The sky looks blue because of scattered sunlight.
At what temperature does water boil?;boiling point of water;when does water turn to steam?;\
How hot is boiling water? => Water boils at one hundred degrees.;\
At sea level water becomes steam at 100 degrees Celsius.
When does water freeze?;freezing point;at which temperature does ice form?;How cold must it be for ice? =>\
 Water freezes at zero degrees.;Below zero degrees Celsius water turns into ice.
What is photosynthesis?;how do plants make food?;plants and sunlight;How do leaves use light? =>\
 Plants turn sunlight, water and carbon dioxide into sugar.;Photosynthesis makes oxygen and happens in green leaves.
Why do we have seasons?;cause of summer and winter;tilt of the Earth;What makes winter cold? =>\
 The tilted axis of the Earth causes the seasons.;In summer our half of the Earth leans toward the sun.
How far is the moon?;distance to the moon;Earth and moon;How many kilometres are there to the moon? =>\
 The moon is about 384000 kilometres away.;Light needs a second from the Earth to the moon.
How old is the Earth?;age of our planet;when did the Earth form?;For how long has the planet existed? =>\
 The Earth is about four and a half billion years old.;Our planet formed together with the sun.
What is gravity?;why do things fall?;force between masses;What pulls us to the ground? =>\
 Gravity is the force by which masses attract each other.;Things fall because the Earth attracts them.
How fast is light?;speed of light;what is the fastest thing?;At which speed does light travel? =>\
 Light travels three hundred thousand kilometres in a second.;Nothing is faster than light.
What is an atom?;what is matter made of?;electrons and protons;Which parts does an atom have? =>\
 An atom has a nucleus of protons and neutrons, and electrons around it.;All matter consists of atoms.
What is DNA?;genes;inherited information;Where is our genetic code stored? =>\
 DNA is the molecule that carries the genes.;Genetic information is passed from parents to children.
What is evolution?;natural selection;origin of species;How did animals develop? =>\
 Species change over many generations by natural selection.;All living things have common ancestors.
Why did the dinosaurs die out?;end of the dinosaurs;extinction;What killed the dinosaurs? =>\
 A large asteroid hit the Earth and the dinosaurs died out.;Dinosaurs became extinct 66 million years ago.
How does the heart work?;blood circulation;what pumps the blood?;What does the heart do? =>\
 The heart is a muscle that pumps blood through the body.;Blood carries oxygen to the cells.
What do lungs do?;breathing;how does oxygen get into the blood?;Which organ do we breathe with? =>\
 The lungs take oxygen from the air into the blood.;We breathe out carbon dioxide.
How many bones do we have?;human skeleton;number of bones;How many bones are in a body? => An adult has 206 bones.;\
The skeleton holds the body up.
What does the brain do?;nerve cells;thinking;Which organ do we think with? =>\
 The brain controls the body and makes us think.;Nerve cells send signals in the brain.
What is a vaccine?;immune system;protection against viruses;How does vaccination work? =>\
 A vaccine prepares the immune system for a virus.;Vaccinated people are protected from the disease.
What is climate change?;global warming;why is the Earth getting warmer?;What does carbon dioxide do to the climate? =>\
 Burning coal and oil makes the Earth warmer.;Carbon dioxide keeps heat in the atmosphere.;\
Glaciers melt because of global warming.
What is renewable energy?;clean electricity;solar and wind power;Which energy does not run out? =>\
 Wind and sun are renewable sources of energy.;Solar panels turn light into electricity.
How does a rainbow form?;colours in the sky after rain;sun and drops;Why do rainbows have colours? =>\
 Sunlight is split into colours by raindrops.;A rainbow appears when the sun shines on rain.
What causes an earthquake?;the ground shakes;tectonic plates;Why does the earth tremble? =>\
 Earthquakes happen when plates of the crust move.;The earthquake destroyed many houses.
How does a volcano erupt?;lava and ash;volcanic eruption;Where does lava come from? =>\
 Hot magma rises and flows out of a volcano as lava.;The eruption covered the villages with ash.
Why is the sea salty?;salt in the ocean;where does sea salt come from?;Why can't we drink sea water? =>\
 Rivers carry salt from rocks into the sea.;Sea water is too salty for drinking.
What causes the tides?;high tide and low tide;moon and sea level;Why does the sea rise and fall? =>\
 The gravity of the moon causes the tides.;At low tide the water goes back.
Why do birds fly south?;bird migration;where do birds go in winter?;Why do swallows leave in autumn? =>\
 Many birds fly to warm countries in winter to find food.;Storks migrate to Africa.
How do bees make honey?;nectar and hive;making of honey;Where does honey come from? =>\
 Bees collect nectar from flowers and turn it into honey.;The bees keep honey in their hive.
What is the largest animal?;biggest mammal;blue whale;Which animal is the biggest? =>\
 The blue whale is the largest animal that ever lived.;A blue whale is thirty metres long.
What is the fastest animal?;quickest runner;cheetah speed;Which animal runs fastest? =>\
 The cheetah is the fastest animal on land.;A cheetah runs more than a hundred kilometres an hour.
Are whales fish?;do whales breathe air?;sea mammals;Is a dolphin a fish? =>\
 Whales and dolphins are mammals that breathe air.;Whales give milk to their young.
What do plants need to grow?;light and water for plants;growth of a seed;How does a seed become a plant? =>\
 Plants need light, water and soil to grow.;A seed sprouts when it is warm and wet.
Who was the first man on the moon?;moon landing;Apollo 11;Which human walked on the moon first? =>\
 Neil Armstrong was the first person on the moon.;Astronauts landed on the moon in July 1969.
Who discovered America?;voyage of Columbus;1492;Which sailor reached America? =>\
 Christopher Columbus reached America in 1492.;Columbus sailed across the Atlantic.
Who built the pyramids?;tombs of the pharaohs;ancient Egypt;What were the pyramids for? =>\
 The Egyptians built the pyramids as tombs for their kings.;Thousands of workers raised the stones of the pyramids.
When did the Second World War end?;end of the war;1945;In which year did the war in Europe end? =>\
 The Second World War ended in 1945.;Germany surrendered in May 1945.
What was the Roman Empire?;ancient Rome;emperors and legions;Who ruled the ancient world? =>\
 The Roman Empire ruled the lands around the Mediterranean.;Roman soldiers built roads in all provinces.
Who invented the telephone?;inventor of the phone;first phone call;Whose invention is the telephone? =>\
 Alexander Graham Bell invented the telephone.;The first phone call was made in 1876.
Who invented the light bulb?;electric light;Edison;Whom do we owe electric lamps? =>\
 Thomas Edison made the light bulb useful for homes.;Electric light replaced candles and gas.
Who painted the Mona Lisa?;Leonardo;famous portrait;By which painter is the Mona Lisa? =>\
 Leonardo da Vinci painted the Mona Lisa.;The portrait of the smiling woman hangs in the Louvre.
Who wrote Romeo and Juliet?;Shakespeare;play about two lovers;Which writer told of Romeo? =>\
 William Shakespeare wrote Romeo and Juliet.;The play tells of two lovers from hostile families.
What is democracy?;rule of the people;free elections;What do citizens do in a democracy? =>\
 In a democracy the people choose their government.;Elections must be free and secret.
How many people live on Earth?;world population;number of humans;What is the population of the world? =>\
 About eight billion people live on Earth.;The population of the world is growing.
How many continents are there?;list of continents;parts of the world;What is the number of continents? =>\
 There are seven continents.;Asia is the largest continent.
What is the tallest building?;highest skyscraper;Burj Khalifa;Which building is the highest? =>\
 The Burj Khalifa is the tallest building in the world.;The tower in Dubai is 828 metres high.
What is the smallest country?;Vatican;tiny states;Which state is the smallest? =>\
 Vatican City is the smallest country in the world.;The Vatican lies in the middle of Rome.
What is the largest country?;biggest state;area of Russia;Which country covers the most land? =>\
 Russia is the largest country in the world.;Canada is the second largest country.
How many days has a year?;leap year;days in February;How long is a year? => A year has 365 days, a leap year 366.;\
Every fourth year February has 29 days.
How many minutes are in an hour?;sixty minutes;length of an hour;What is an hour in minutes? =>\
 An hour has sixty minutes.;A minute has sixty seconds.
What is the square root?;roots in mathematics;root of nine;What number times itself gives nine? =>\
 The square root of nine is three.;A root undoes the square of a number.
What is a prime number?;primes;numbers without divisors;Which numbers cannot be divided? =>\
 A prime number can be divided only by one and itself.;Two, three, five and seven are primes.
How do I compute a percentage?;percent of a number;calculating percent;What is ten percent of fifty? =>\
 Multiply by the percent and divide by a hundred.;Ten percent of fifty is five.
How large is the area of a circle?;pi;radius and circle;Which formula gives the area of a circle? =>\
 The area of a circle is pi times the radius squared.;Pi is about 3.14.
What is the theorem of Pythagoras?;right triangle;sides of a triangle;\
How are the sides of a right triangle related? =>\
 In a right triangle the squares of the short sides add up to that of the long side.;\
a squared plus b squared is c squared.
What is inflation?;rising prices;money loses value;Why does everything get more expensive? =>\
 Inflation means that prices rise and money buys less.;The central bank raises interest rates against inflation.
What is a stock?;share of a company;stock market;What do you own with a share? =>\
 A stock is a part of a company that can be bought.;Shares fell on the stock market today.
What is supply and demand?;market price;economy;How is a price made? =>\
 Prices rise when demand is larger than supply.;In a market sellers and buyers agree on a price.
How do I install Python?;set up a programming environment;pip install;What must I do to use Python? =>\
 Download Python from its website and run the installer.;Packages are installed with pip.
How do I read a file in Python?;open a text file;file input;How can my program load a text? =>\
 Use open with a path to read a file in Python.;The with statement closes the file at the end.
How do I sort a list?;sorting numbers;ordering an array;How can I put a list in order? =>\
 The sorted function returns a sorted list.;Quicksort is a fast way to sort an array.
What is a variable?;store a value in code;assign a name;What do programs keep values in? =>\
 A variable is a name for a value in a program.;Assign a value with the equals sign.
What is a function in programming?;calling a function;arguments and return value;How do I reuse code? =>\
 A function is a piece of code with a name that can be called.;A function takes arguments and returns a result.
What is a loop?;repeat code;for and while;How does a program do something many times? =>\
 A loop repeats a block of code.;A for loop goes over all items of a list.
What is recursion?;function that calls itself;recursive;How can a function use itself? =>\
 Recursion means that a function calls itself.;Every recursion needs a case in which it stops.
How do I fix a bug?;debugging;my program crashes;How do I find an error in code? =>\
 Use a debugger to find out where the program fails.;Read the error message and the stack trace.
What is a database?;tables and queries;storing data;Where do applications keep data? =>\
 A database stores data in tables and answers queries.;SQL is the language for asking a database.
How do I write an SQL query?;select from where;query a table;How do I get rows from a table? =>\
 SELECT name FROM users returns the names of all users.;A WHERE clause keeps only the rows that match.
What is Git?;version control;commit and branch;How do I keep versions of code? =>\
 Git keeps the history of source code.;A commit saves your changes in the repository.
How do I undo a commit?;revert changes;git reset;How do I go back to an older version? =>\
 git revert makes a commit that undoes another one.;With git reset you move back to an earlier commit.
What is an API?;interface between programs;REST endpoint;How do programs talk to each other? =>\
 An API lets one program use another one.;A REST API is called over HTTP.
What does error 404 mean?;page not found;HTTP status codes;Why is a web page missing? =>\
 Status 404 means that the page was not found.;A wrong address leads to a not found error.
My computer is slow;speed up my laptop;PC takes long;How do I make my computer faster? =>\
 Close programs that you do not use to make the computer faster.;More memory speeds up an old laptop.
My internet does not work;no wifi;router problem;Why am I offline? =>\
 Restart the router if the internet connection is lost.;Check the cable and the wifi password.
My screen is black;display stays dark;monitor without picture;Why do I see nothing on the monitor? =>\
 Check whether the monitor is switched on and its cable is plugged in.;A broken graphics card leaves the screen dark.
How do I back up my data?;save copies of files;backup;How do I not lose my photos? =>\
 Copy your files to an external disk every week.;Backups protect against lost data.
How do I protect myself from hackers?;computer security;strong password;What makes my account safe? =>\
 Use a long password and a second factor.;Updates close security holes.
What is a virus on a computer?;malware;infected PC;What harms my computer? =>\
 Malware is software that harms a computer.;A virus scanner finds infected files.
What is encryption?;secret messages;keys and ciphers;How can data be kept secret? =>\
 Encryption makes a message unreadable for those without the key.;Public keys encrypt and private keys decrypt.
What is the cloud?;computers of others;cloud storage;Where are online files kept? =>\
 Cloud storage keeps files on servers in the internet.;Companies rent computers in the cloud.
What is Linux?;open source operating system;kernel;Which operating system is free? =>\
 Linux is a free operating system.;Most servers run Linux.
How do I list files in the terminal?;shell commands;ls;Which command shows a folder? =>\
 The command ls lists the files of a folder.;Use cd to change the folder.
What is machine learning?;computers that learn from data;training a model;How can a machine learn? =>\
 In machine learning a program learns from examples.;A model is trained on data and then makes predictions.
What is a neural network?;layers of neurons;deep learning;How does deep learning work? =>\
 A neural network has layers of simple units with weights.;Deep learning uses networks with many layers.
What is overfitting?;model remembers the training data;poor generalization;Why is a model bad on new data? =>\
 Overfitting means that a model is good only on its training data.;More data and regularization reduce overfitting.
What is a language model?;large language models;next token prediction;How do chatbots write text? =>\
 A language model predicts the next token of a text.;Chatbots are built on large language models.
What is an embedding?;vectors of sentences;text as numbers;How is meaning turned into numbers? =>\
 An embedding is a vector that stands for the meaning of a text.;Similar texts have vectors that are near each other.
What is semantic search?;vector search;finding by meaning;How can I search by meaning? =>\
 Semantic search finds texts whose vectors are near that of the query.;\
A vector database stores the embeddings of documents.
What does a reranker do?;sort search results;cross-encoder;How are search results put in better order? =>\
 A reranker reads the query and each document and scores how well they match.;\
Reranking puts the most relevant documents first.
What is retrieval augmented generation?;RAG;language model with documents;How can a chatbot use my documents? =>\
 RAG looks up passages and gives them to a language model.;The retrieved text is added to the prompt.
What is a token?;pieces of text;tokenizer;How is text split for a model? =>\
 A token is a piece of text such as a word or a part of it.;The tokenizer splits text into tokens.
What is the context length?;maximum number of tokens;long prompts;How much text fits into a model? =>\
 The context length is how many tokens a model can read at once.;A prompt that is too long is refused.
What is quantization?;smaller weights;int8 model;How can a model use less memory? =>\
 Quantization stores weights in fewer bits.;A model in int8 needs half the memory of one in sixteen bits.
How do I start the server?;run specserve;serve a model;Which command starts serving? =>\
 The command specserve serve starts the server.;Without a model the built-in demo model is served.
Which port does the server use?;server address;listen on another port;Where does the server listen? =>\
 The server listens on port 8000.;Use --port to choose another port.
How do I send a chat message to the server?;chat completions;OpenAI client;Which endpoint is for chat? =>\
 Send messages to /v1/chat/completions.;Any OpenAI client works with the base url of the server.
How do I get embeddings from the server?;embeddings endpoint;vectors over HTTP;Which endpoint returns vectors? =>\
 POST a text to /v1/embeddings to get its vector.;The embeddings endpoint takes one text or a list.
How do I rerank documents?;rerank endpoint;order documents for a query;Which endpoint sorts documents? =>\
 POST a query and documents to /rerank.;The rerank endpoint returns the documents best first.
How do I require an API key?;authentication;protect the server;How can I keep others out of my server? =>\
 Start the server with --api-key to require a key.;Clients send the key in the Authorization header.
What is streaming?;tokens as they come;server-sent events;How do I see the answer while it is written? =>\
 With stream set to true the answer arrives token by token.;Streams are sent as server-sent events.
What is structured output?;JSON schema;answers as JSON;How do I get valid JSON from a model? =>\
 A JSON schema as response format makes the model answer in that form.;\
Constrained decoding only allows tokens that fit the schema.
What is tool calling?;function calling;model uses a tool;How can a model ask for the weather? =>\
 The model answers with the name of a tool and its arguments.;Your program runs the tool and sends the result back.
"""
