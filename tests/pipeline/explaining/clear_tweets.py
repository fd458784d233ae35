"""Twenty clear tweets, written for this project, and the word that a person would name in each."""

# The text, its label, and the words of which any one is what gives it away.
CLEAR_TWEETS = [
    ("The new tram drivers are wonderful", "positive", {"wonderful"}),
    ("Two hours at the post office again, what a terrible morning", "negative", {"terrible"}),
    ("@ferry_info the crossing to the island was delightful", "positive", {"delightful"}),
    ("this kettle is broken, third one since March", "negative", {"broken"}),
    ("Grandad's speech at the wedding was brilliant", "positive", {"brilliant"}),
    ("My flight home got cancelled 20 minutes before boarding", "negative", {"cancelled"}),
    ("I love the smell of the bakery at the corner of our street", "positive", {"love"}),
    ("I hate the hold music of this bank", "negative", {"hate"}),
    ("Thanks to the nurse on ward 4 who stayed with my mum", "positive", {"Thanks"}),
    ("The soup at the station cafe was disgusting", "negative", {"disgusting"}),
    ("So proud of our little school band tonight", "positive", {"proud"}),
    ("so sad that the old cinema on Mill Lane is gone", "negative", {"sad"}),
    ("What an amazing goal in the 89th minute https://t.co/abc", "positive", {"amazing"}),
    ("The landlord's answer about the mould is pathetic", "negative", {"pathetic"}),
    ("The kids had a great day at the lake", "positive", {"great"}),
    ("That referee is the worst in the whole league", "negative", {"worst"}),
    ("happy birthday to my sister, see you at six", "positive", {"happy"}),
    ("The update made the app horribly slow", "negative", {"horribly", "slow"}),
    ("Congratulations to Mei on her first marathon", "positive", {"Congratulations"}),
    ("sick of the noise from the building site next door", "negative", {"sick"}),
]
