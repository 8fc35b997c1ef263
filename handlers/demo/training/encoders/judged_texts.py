"""Forty queries and 120 sentences written by hand, none of which is in the training text.

One line a query, with the sentence that answers it and two that do not.
"""

from __future__ import annotations

TEXT = """
Which of these is the French capital? | Paris, on the river Seine, is the capital of France. |\
 The Eiffel tower is made of iron. | Bananas are yellow.
Which city is the seat of the Italian government? | Rome has been the capital of Italy since 1871. |\
 Venice was built on many small islands. | Pizza tastes best from a wood oven.
How can I change the password of my account? | A forgotten password is reset with the link on the login page. |\
 Our office has moved to the second floor. | The account of the journey was published in 1902.
Where is my parcel? | You can follow your package with the tracking number. | The post office sells stamps. |\
 Wrapping paper comes in many colours.
I want to send the shoes back | Unworn shoes may be returned within two weeks. |\
 These shoes are made of brown leather. | The new running shoes are very light.
When does the museum open on weekends? | On Saturday and Sunday the museum opens at ten o'clock. |\
 The museum shows paintings of the last century. | We opened the window because it was hot.
my dog does not want to eat | If your dog refuses its food, ask a veterinarian. | Dogs love long walks in the woods. |\
 The restaurant serves food until midnight.
food for cats | A cat needs meat and plenty of water. | Our cat sleeps on the sofa all day. | The car needs new brakes.
animals of the African savanna | Lions, zebras and giraffes live in the grasslands of Africa. |\
 The South African parliament meets in Cape Town. | My grandmother bakes bread every Friday.
a bird that cannot fly | Penguins are birds that swim but do not fly. | The pilot flew the plane through a storm. |\
 Eagles build their nests on high rocks.
recipe for chocolate cake | Melt the chocolate, stir in eggs and flour, and bake the cake for forty minutes. |\
 The football team trains twice a week. | The chocolate factory employs two hundred people.
how long to boil eggs | Hard boiled eggs need ten minutes in boiling water. |\
 Hens lay about three hundred eggs a year. | The kettle stands beside the stove.
healthy diet | Eat a lot of vegetables and fruit to stay healthy. | The health ministry has a new building. |\
 Fast cars need a lot of fuel.
remedies for a cold | Hot tea and rest help when you have caught a cold. | The winter was very cold this year. |\
 Ice cream is sold at the beach.
whom do I see when I fall ill | A doctor examines patients and gives them medicine. | \
 The carpenter made a table of oak. |Sick leave must be reported to the manager.
somebody to mend my motor | A mechanic in the garage mends engines and brakes. | \
 The person in the picture wears a hat. |Cars are not allowed in the old town.
musical instrument with strings | The violin is played with a bow on four strings. | The trumpet is made of brass. |\
 She tied the box with a string.
best way to learn a foreign language | Talk with native speakers and study new words each day. |\
 The foreign minister travelled to Japan. | The best pizza in town is sold here.
planets in our solar system | Jupiter and Saturn are giant planets that orbit the sun. |\
 Solar panels on the roof produce electricity. | The operating system must be updated.
salt water in the sea, how come | Rivers wash salt from the rocks into the ocean. | \
 The sea was calm and the sailors slept. | Put some salt into the soup.
cause of earthquakes | When plates of the crust of the Earth move, the ground shakes. |\
 The cause of the fire is unknown. | The shop sells plates and cups.
author of the play about prince Hamlet | Hamlet is a play by William Shakespeare. | The village has a small theatre. |\
 He wrote the address on the envelope.
inventor behind the first telephone | The telephone was the idea of Alexander Graham Bell. |\
 My telephone has an empty battery. | The inventor sold his house.
first human on the moon | Neil Armstrong stepped onto the moon in 1969. | The moon shines through the window tonight. |\
 First we cook the potatoes.
end of the second world war | The war ended in Europe in May 1945. | The second chapter is the best. |\
 The world championship takes place in July.
tallest mountain in the world | Mount Everest rises higher than any other mountain. |\
 The tallest boy in the class plays basketball. | We camped in the mountains last year.
longest river of Africa | The Nile flows through Egypt to the Mediterranean. | African music has complex rhythms. |\
 The bank of the river is muddy.
What do people in Brazil speak? | Portuguese is the language of Brazil. | Brazil exports a lot of coffee. |\
 The speaker was late.
money used in Japan | In Japan you pay with yen. | Japan has many volcanoes. | He lost all his money at the casino.
the film was boring | I nearly fell asleep in the cinema because the movie was so dull. |\
 A film of oil covers the lake. | The drill makes a hole in the wall.
I am very satisfied with this phone | The mobile works great and I would buy it again. |\
 The phone number of the hotel is on the website. | The screw does not fit.
is rain expected the day after today | The forecast promises wet weather for the next day. | \
 Tomorrow we will visit my uncle. |The train was crowded.
how to sort a list in Python | Call sorted to get the items of a Python list in order. |\
 The python is a snake that lives in warm countries. | The guest list has forty names.
undo the last git commit | With git revert the previous commit can be taken back. | The committee meets on Thursday. |\
 The last bus leaves at eleven.
my internet connection is down | Restart your router when you are offline. |\
 Going down the stairs is easier than going up. | The connection between the two novels is clear.
explain neural nets to me | Neural networks consist of layers of artificial neurons that learn from data. |\
 The railway network has grown. | The fishing net is torn.
find documents with similar meaning | Semantic search compares the embeddings of texts. |\
 The documents lie on the desk in the study. | The two brothers look similar.
interest rate for a mortgage | The bank lends money for a house at three percent. |\
 The lecture was of great interest. | The heart rate of a runner is low.
What does Zorbalin cost? | Zorbalin is sold for twelve euros. | Krumetal is sold for nine euros. |\
 Zorbalin was found by a chemist from Oslo.
Where does Ms Tavenko work? | Ms Tavenko is employed at the harbour of Riga. |\
 Mr Oduya is employed at the harbour of Accra. | Ms Tavenko likes old films.
"""


def groups() -> list[tuple[str, str, list[str]]]:
    """(query, the sentence that answers it, the two that do not)."""
    found = []
    for line in TEXT.strip().splitlines():
        query, right, *wrong = (part.strip() for part in line.split("|"))
        found.append((query, right, wrong))
    return found
