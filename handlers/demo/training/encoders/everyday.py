"""Questions and answers of everyday life: accounts, orders, travel, health, home, food, school, work, money, leisure.

One line a fact, `questions => statements`, both in several wordings; the last question is kept out of training.
"""

from __future__ import annotations

LINES = """
How do I reset my password?;I forgot my password;change my login password;I cannot log in, what can I do?;\
How can I get a new password? => Click on forgot password on the login page to reset it.;\
You can change your password in the account settings.;A new password is sent to your email address.
How do I delete my account?;close my account;I want my account removed;Where can I cancel my membership? =>\
 Accounts can be deleted in the settings under privacy.;To close your account, write to our support team.
How do I change my email address?;update my contact details;I have a new email;Where do I edit my profile? =>\
 Open your profile and enter the new email address.;Your contact details are edited in your profile.
How do I create an account?;sign up;register as a new user;Where can I open an account? =>\
 Press sign up and enter your name and email to register.;New users register with an email address.
Where is my order?;track my package;my parcel has not arrived;When will my delivery come? =>\
 The tracking number in the shipping mail shows where your package is.;Orders arrive within three to five working days.
How do I return an item?;send back a product;I do not like what I bought;Can I give the goods back? =>\
 Items can be returned within thirty days.;Put the product in its box and use the return label.
How do I get a refund?;I want my money back;refund for a cancelled order;When do you pay me back? =>\
 Refunds are paid within a week to your card.;We give the money back after the item has come back to us.
How much is shipping?;delivery costs;Is delivery free?;What do you charge for sending? =>\
 Shipping is free for orders over fifty euros.;Delivery costs five euros.
Which payment methods do you accept?;pay by credit card;can I pay with PayPal?;How can I pay? =>\
 We accept credit cards, PayPal and bank transfer.;You can pay by card or on invoice.
When are you open?;opening hours;is the shop open on Sunday?;What time do you close? =>\
 The shop is open from nine to six, Monday to Saturday.;We are closed on Sundays.
How can I contact support?;customer service phone number;talk to a human;How do I reach your help desk? =>\
 Our support team answers by phone and email.;Customer service can be called from eight to five.
How do I cancel my subscription?;stop my monthly plan;end the contract;How can I quit the plan? =>\
 Subscriptions can be cancelled at any time in the billing settings.;\
The plan ends at the end of the month after you cancel it.
The product arrived broken;damaged item in the box;my order is defective;What if the goods are damaged? =>\
 We replace damaged goods free of charge.;Send us a photo of the broken product for a new one.
Do you have a discount?;coupon code;student discount;Are there any special offers? => Students get ten percent off.;\
Enter the coupon code at checkout to pay less.
How long is the warranty?;guarantee period;is my device still under warranty?;For how long is it guaranteed? =>\
 The warranty lasts two years.;Repairs are free during the guarantee period.
How do I book a hotel room?;reserve a room for two nights;hotel reservation;Where can I reserve accommodation? =>\
 Hotel rooms can be booked online or at the reception.;We have a double room free for two nights.
When does the train leave?;departure of the next train;train timetable;What time is the next train? =>\
 The next train leaves at noon from platform four.;Trains to the city run every half hour.
My flight is delayed;flight cancelled, what now?;late plane compensation;What happens if my plane is late? =>\
 Passengers get compensation when a flight is more than three hours late.;\
The airline rebooks you when a flight is cancelled.
How much luggage may I take?;baggage allowance;hand luggage size;How heavy may my suitcase be? =>\
 Each passenger may bring one suitcase of twenty kilograms.;Hand luggage must fit under the seat.
Do I need a visa?;passport for travelling abroad;entry requirements;Which documents do I need to enter the country? =>\
 Travellers need a valid passport, and for some countries a visa.;\
Citizens of the union can enter with an identity card.
How do I get to the airport?;bus to the airport;airport taxi;What is the best way to the airport? =>\
 A bus goes to the airport every twenty minutes.;A taxi to the airport takes half an hour.
Can you recommend a restaurant?;good place to eat;where can we have dinner?;Where is good food near here? =>\
 The Italian restaurant at the corner has very good pasta.;A small place by the river serves fresh fish.
I have a headache;my head hurts;what helps against headaches?;remedy for a migraine =>\
 Rest in a dark room and a painkiller help against a headache.;Drinking water often makes headaches go away.
I have a fever;high body temperature;when is a temperature dangerous?;What should I do with a fever? =>\
 With a fever one should rest and drink a lot.;See a doctor if the fever is above forty degrees.
How do I treat a burn?;I burnt my hand;first aid for burns;What helps with a burnt finger? =>\
 Cool a burn with running water for ten minutes.;Do not put butter on burnt skin.
I cannot sleep;how to fall asleep;tips against insomnia;What helps me to sleep better? =>\
 A dark quiet room and a fixed bedtime make it easier to fall asleep.;Avoid coffee and screens before going to bed.
How can I lose weight?;diet tips;getting rid of body fat;What is a good way to get slimmer? =>\
 Eating fewer calories and moving more makes you lose weight.;A diet with many vegetables helps to get slim.
How often should I exercise?;workout plan;staying fit;How much sport is healthy? =>\
 Half an hour of exercise a day keeps the body fit.;Regular training makes heart and muscles strong.
What should I eat to stay healthy?;healthy food;balanced diet;Which food is good for me? =>\
 Fruit, vegetables and whole grain are part of a healthy diet.;Too much sugar and fat is bad for your health.
I have a toothache;my tooth hurts;pain in the mouth;Who helps with bad teeth? => A dentist treats painful teeth.;\
Brush your teeth twice a day to avoid holes in them.
How do I stop smoking?;quit cigarettes;give up tobacco;What helps against the urge to smoke? =>\
 Nicotine patches help people to quit smoking.;Giving up cigarettes is good for the lungs.
I caught a cold;runny nose and cough;what to do against a cold;How do I get rid of a cough? =>\
 Hot tea with honey is good against a cold.;A cold usually goes away after a week.
I feel sad and lonely;depression;I am unhappy all the time;Who helps when you feel down? =>\
 Talking with a friend or a therapist helps when you are sad.;Depression can be treated by a psychologist.
How do I cook rice?;boiling rice;recipe for rice;How long does rice need in the pot? =>\
 Cook one cup of rice in two cups of water for fifteen minutes.;Rinse the rice before you boil it.
How do I boil an egg?;soft boiled egg time;cooking eggs;How many minutes does an egg need? =>\
 A soft egg boils for five minutes, a hard one for ten.;Put the eggs into boiling water.
How do I bake bread?;bread recipe;homemade loaf;What goes into a bread dough? =>\
 Bread dough is made of flour, water, yeast and salt.;Bake the loaf for forty minutes in a hot oven.
How do I make pancakes?;pancake batter;recipe with eggs and milk;What do I need for pancakes? =>\
 Mix flour, eggs and milk and fry the batter in a pan.;Serve the pancakes with syrup.
How do I make coffee?;brewing coffee;strong espresso;What is the way to a good coffee? =>\
 Pour hot water over ground coffee.;An espresso is pressed through the powder with steam.
How do I make tomato sauce?;sauce for pasta;cooking tomatoes;What belongs in a sauce for noodles? =>\
 Fry garlic and onions, add tomatoes and let the sauce simmer.;Basil gives the tomato sauce its taste.
How long can I keep leftovers?;storing food in the fridge;is this still good to eat?;When does cooked food go bad? =>\
 Cooked food keeps for three days in the fridge.;Freeze leftovers to store them for months.
How do I bake a cake?;chocolate cake recipe;birthday cake;What do I need to make a cake? =>\
 Beat butter, sugar and eggs, add flour and bake the cake for an hour.;Melted chocolate makes the cake dark and moist.
How do I remove a stain?;red wine on my shirt;spot on clothes;What gets stains out? =>\
 Salt and cold water remove red wine stains.;Soak the stained shirt before washing it.
The toilet is blocked;clogged drain;water does not flow off;How do I clear a blocked pipe? =>\
 A plunger clears a blocked drain.;Call a plumber if the pipe stays clogged.
The lamp does not work;light bulb is broken;no light in the room;How do I change a bulb? =>\
 Switch off the power and screw in a new bulb.;A dead bulb has to be replaced.
The power is out;no electricity;the fuse blew;Why is there no current at home? =>\
 Check the fuse box when the electricity is gone.;The power company repairs broken lines.
My heating does not work;cold apartment;radiator stays cold;Why is it so cold in my flat? =>\
 Bleed the radiator if it does not get warm.;The landlord must repair the heating.
How do I paint a wall?;painting a room;choosing wall paint;What do I need to colour a room? =>\
 Cover the floor and use a roller to paint the wall.;Two coats of paint make the wall look even.
How do I water my plants?;my plant is dying;yellow leaves;Why do the leaves go brown? =>\
 Too much water makes the leaves of plants yellow.;Most house plants need water once a week.
When do I plant tomatoes?;growing vegetables;vegetable garden;What is the right month for sowing? =>\
 Tomatoes are planted outdoors after the last frost in May.;Vegetables need sun and good soil.
How do I get rid of mice?;pests in the kitchen;ants in the house;What helps against insects at home? =>\
 Traps and closed food boxes keep mice away.;Ants stay away when no crumbs lie around.
How do I train my dog?;puppy does not listen;teaching a dog to sit;How does a dog learn commands? =>\
 Reward the puppy with treats when it obeys.;Dogs learn commands by short daily practice.
What do cats eat?;food for my kitten;feeding a cat;What should I give my cat? => Cats eat meat and need fresh water.;\
Kittens are fed small meals several times a day.
My cat is sick;vet for my dog;animal doctor;Who treats ill pets? => A veterinarian treats sick pets.;\
Take the animal to the vet if it does not eat.
How do I adopt a pet?;get a dog from a shelter;new home for animals;Where can I find a kitten? =>\
 The animal shelter has dogs and cats that look for a home.;You can adopt a pet after a visit to the shelter.
How do I learn a language?;improve my English;learning vocabulary;What helps to speak Spanish better? =>\
 Speak with natives and learn ten new words every day.;Watching films in the foreign language improves your listening.
How do I prepare for an exam?;study tips;learning for a test;What is a good way to study? =>\
 Make a plan and repeat the material before the exam.;Short breaks help you to remember what you learn.
How do I write an essay?;structure of an essay;school writing;How is a good text built? =>\
 An essay has an introduction, a main part and a conclusion.;Make an outline before you write.
How do I apply to a university?;college admission;studying abroad;How can I become a student? =>\
 Applications for university are due in July.;You need a school certificate to study at a college.
How do I write an application for a job?;CV tips;job application letter;What belongs in a resume? =>\
 A CV lists your education and your work experience.;The application letter says why you want the job.
How do I prepare for a job interview?;questions in an interview;first meeting with an employer;\
What should I say at the interview? => Learn about the company before the job interview.;\
Be on time and ask questions in the interview.
How do I ask for a raise?;more salary;negotiating my pay;How can I earn more at work? =>\
 List your successes when you ask your boss for more money.;A good moment to talk about salary is the yearly review.
How many vacation days do I have?;taking time off;holiday request;How do I ask for days off? =>\
 Employees have thirty days of vacation a year.;Holiday requests go to your manager.
I want to quit my job;notice period;resignation letter;How do I leave a company? =>\
 The notice period is three months.;A resignation must be in writing.
When is the meeting?;appointment with the team;schedule a call;What time do we meet? =>\
 The meeting starts at ten in room two.;The team call was moved to Tuesday.
How do I open a bank account?;new current account;which bank is good?;What do I need for an account at a bank? =>\
 Bring your identity card to the bank to open an account.;Online banks open an account in ten minutes.
How do I get a loan?;borrow money;mortgage for a house;Who lends me money? =>\
 The bank gives a loan if your income is high enough.;A mortgage is a loan for buying a house.
How do I save money?;saving tips;spend less;What can I do to have more money left? =>\
 Write down what you spend and put some money aside every month.;Cooking at home is a way to save money.
How should I invest?;buying shares;stocks and funds;Where should I put my savings? =>\
 An index fund spreads money over many companies.;Shares can gain a lot and lose a lot.
I lost my credit card;card stolen;block my bank card;What do I do when my card is gone? =>\
 Call the bank at once to block a lost card.;A stolen credit card is replaced by the bank.
How do I pay taxes?;tax return;income tax;When must I send my tax papers? =>\
 The tax return has to be filed by the end of July.;Income tax is taken from your salary.
How much is the rent?;apartment for rent;flat with two rooms;What does the flat cost a month? =>\
 The rent of the two room apartment is eight hundred euros.;The flat is free from next month.
How do I move to a new apartment?;moving house;packing boxes;What must I think of when I move? =>\
 Pack your things in boxes and rent a van for moving.;Tell the post office your new address.
My neighbour is loud;noise at night;quiet hours;What can I do against noise? =>\
 Talk with the neighbours when their music is too loud.;After ten in the evening it must be quiet.
How do I get a driving licence?;learning to drive;driving school;What do I need to drive a car? =>\
 Driving lessons and a test lead to the licence.;You must be eighteen to drive a car alone.
My car does not start;engine trouble;flat battery;What is wrong with my car? =>\
 An empty battery is often why a car does not start.;Bring the car to the garage when the engine makes noises.
I have a flat tyre;changing a wheel;hole in the tyre;How do I put on the spare wheel? =>\
 Lift the car with a jack and change the wheel.;A bicycle tyre is mended with a patch.
I had an accident;car crash;collision on the road;Whom do I call after a crash? =>\
 Call the police and an ambulance after an accident.;Two cars crashed at the crossing this morning.
Where can I park?;parking space;garage in the centre;Where do I leave my car? =>\
 There is a parking garage beside the station.;Parking costs two euros an hour.
What is in the cinema?;good film tonight;movie recommendation;Which film should I see? =>\
 A comedy and a thriller are shown in the cinema tonight.;The new film with the famous actor is worth watching.
Which book should I read?;book recommendation;good novel;Can you name a book worth reading? =>\
 The novel about the two sisters is a good read.;Fantasy fans will enjoy the story of the dragon.
How do I learn to play the guitar?;guitar lessons;first chords;How can I become better at music? =>\
 Practise three chords every day to learn the guitar.;A music teacher shows you how to hold the instrument.
Who won the match?;result of the game;football score;How did the game end? =>\
 The home team won the match by two goals to one.;The final ended with a draw.
What can we do at the weekend?;things to do;trip with kids;Have you an idea for Sunday? =>\
 A walk in the zoo is a nice trip for families.;The museum is free on Sundays.
What shall I give for a birthday?;gift ideas;present for my mother;What is a good gift? =>\
 Flowers or a book are good presents.;A home made cake makes a birthday special.
How do I plan a wedding?;getting married;bride and groom;What must be done before we marry? =>\
 The couple needs a place, guests and a ring for the wedding.;The bride wore a white dress.
Will it rain tomorrow?;weather forecast;do I need an umbrella?;What will the weather be like? =>\
 The forecast says rain in the afternoon.;Tomorrow will be sunny and warm.;Take an umbrella, dark clouds are coming.
How cold is it outside?;temperature today;will it snow?;Do I need a warm coat? =>\
 It is minus five degrees and snowing.;A cold wind blows from the north.
What time is it?;current time;clock;Can you tell me the hour? => It is half past three.;The clock shows twelve.
What is your name?;who are you?;introduce yourself;How are you called? => My name is Anna.;\
I am called Peter and come from the north.
How are you?;are you well?;how is it going?;How do you feel today? => I am fine, thank you.;I feel very well today.
Where do you live?;your address;home town;In which place is your home? => I live in a small house by the sea.;\
My flat is in the centre of the city.
I love this film;what a wonderful movie;best film ever;This movie was great =>\
 A touching story and great actors make this film a joy.;I enjoyed every minute in the cinema.
The food was awful;terrible restaurant;cold meal and rude waiter;I did not like the restaurant =>\
 The restaurant was a disappointment, the soup was cold.;We waited an hour and the staff was unfriendly.
Great phone, I recommend it;happy with this product;works perfectly;I am satisfied with what I bought =>\
 The product is excellent and worth its price.;Very good quality, I would buy it again.
Bad quality;broke after a week;waste of money;I am disappointed by this product =>\
 The device stopped working after a few days.;Do not buy this, it is poorly made.
"""
