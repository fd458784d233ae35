"""Texts on which an encoder is tried when it is loaded. Invented, short and unlike each other.

The first few show whether half precision keeps the vectors; on all of them the ranges of values for
8-bit integers are measured, so that these are the same on every machine. To change a text changes
what int8 vectors mean: raise their version in `features/spec/encoder_spec.py` then.
"""

PROBE_TEXTS = (
    "ok",
    "not bad at all, actually!",
    "@user the 7:42 is late AGAIN. thanks for nothing http",
    "so happy for you two 🎉❤️ #wedding",
    "The council meets on Tuesday at 6 pm in the old library.",
    "I wanted to love this film, I really did, but two hours in I was checking my watch and by the "
    "third plot twist I'd have paid someone to let me out of there.",
    "¿alguien sabe a qué hora abre la biblioteca mañana?",
    "$AAPL up 3.2%, oil flat, and my savings account earned 4 cents. living the dream",
)

RANGE_TEXTS = (
    *PROBE_TEXTS,
    "",
    "lol",
    "RT @user: breaking: bridge closed in both directions until Monday morning http",
    "WHY IS NOBODY TALKING ABOUT THIS???",
    "meh. seen better, seen worse",
    "best. concert. ever. my ears are still ringing and I regret nothing",
    "@user @user no, the meeting moved to the 3rd floor, room 314",
    "I can't believe they cancelled the show after one season, what a joke",
    "Happy birthday grandma! 92 and still beats me at cards",
    "just landed, 31 degrees at midnight, send help",
    "New blog post: five things I learned about sourdough during the winter http #baking",
    "The minister said on Friday that the figures for the third quarter would be revised.",
    "customer service put me on hold for 58 minutes and then hung up. unbelievable.",
    "who else is watching the match tonight? 2-1 for us, I can feel it",
    "😂😂😂",
    "je suis tellement fatiguée aujourd'hui, vivement le week-end",
    "Das Wetter morgen: sonnig, 24 Grad, leichter Wind aus Nordwest.",
    "não acredito que já é segunda-feira outra vez",
    "東京は今日も雨です",
    "صباح الخير يا أصدقاء",
    "my cat knocked over the coffee, the plant and the router, in that order. before 8 am.",
    "#mondaymotivation #grind #nevergiveup",
    "Thank you to everyone who donated, we reached the goal in under three hours!!",
    "honestly the new update made everything slower and now the app crashes on start",
    "does anyone have a spare charger at the library, second floor? will pay in cookies",
    "She was not unhappy with the result, but she would not call it a success either.",
    "3 goals, 2 red cards, 1 very confused referee",
    "Rest in peace. You taught us more than you knew.",
    "can we please stop putting pineapple on everything",
    "The train to the airport leaves every 15 minutes from platform 4.",
    "i love it when people reply 'k'. really. makes my day. /s",
    "free tickets for Saturday, first come first served, dm me",
    "Scientists have found a beetle that was thought to be extinct since 1921, in a car park.",
    "this song again?! third time in an hour, radio people, get a second cd",
    "finally finished the puzzle. one piece is missing. of course it is.",
    "https://example.org/a/b?c=1&d=2 :) :( ;-) <3 \\o/ ¯\\_(ツ)_/¯",
    "We regret to inform passengers that flight 208 has been delayed by approximately two hours.",
    "you're the worst and I mean that in the nicest possible way",
    "update: the dog is fine, the sofa is not",
    "Voting closes at eight tonight, bring your ID and a pen.",
)
