"""The sentences that the support-desk dialogues are built from.

`{thing}` is the customer's device with an article ("my printer"), `{product}` the bare word,
`{s}` a symptom as a clause, `{fix}` a fix as an imperative ("open the rear flap"). `{Thing}`,
`{S}` and `{Fix}` are the same with a capital letter, `{n}` is a number.

Customer phrases come in two disjoint sets, `SEEN` for pre-training and training and `UNSEEN`
for held-out prompts. Reply phrases come in two manners that share the neutral fillers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UserPhrases:
    """What a customer's message is put together from, one of each kind."""

    greetings: tuple[str, ...]
    frames: tuple[str, ...]
    contexts: tuple[str, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Manner:
    """What one manner of replying is put together from, besides `NEUTRAL_FILLERS`."""

    openings: tuple[str, ...]
    advice: tuple[str, ...]
    repeats: tuple[str, ...]
    evasions: tuple[str, ...]
    fillers: tuple[str, ...]
    closings: tuple[str, ...]


THINGS = (
    "my {product}",
    "our {product}",
    "the {product}",
    "my new {product}",
    "my old {product}",
    "the {product} at home",
    "the {product} in the office",
)

SEEN = UserPhrases(
    greetings=("", "", "", "Hi!", "Hello!", "Hi there!", "Good morning.", "Dear support team."),
    frames=(
        "There is a problem with {thing}: {s}.",
        "I have trouble with {thing}. {S}.",
        "{Thing} is not working well. {S}.",
        "Something is wrong with {thing}, {s}.",
        "{S}. I am talking about {thing}.",
        "I need help with {thing} because {s}.",
        "{Thing} does not behave. {S}.",
        "We bought a {product} from you and now {s}.",
        "{S}. It is about {thing}.",
        "I am writing about {thing}. {S}.",
        "Can you help me with {thing}? {S}.",
        "{Thing} again: {s}.",
        "{S}. The device is a {product}.",
        "The case is {thing}: {s}.",
    ),
    contexts=(
        "",
        "",
        "",
        "It started yesterday.",
        "This has been going on since Monday.",
        "My order number is {n}.",
        "I already switched it off and on.",
        "I need it for work today.",
        "It is only two months old.",
        "It worked fine last week.",
        "I tried everything I know.",
        "Nothing has changed here.",
        "It happens several times a day.",
    ),
    questions=(
        "",
        "",
        "What should I do?",
        "Can you help?",
        "How do I fix this?",
        "Any ideas?",
        "What now?",
        "How do I get it to work again?",
    ),
)

UNSEEN = UserPhrases(
    greetings=("", "", "Good afternoon.", "Hey support!"),
    frames=(
        "I have a question about {thing}: {s}, and I do not know why.",
        "{S}, and {thing} is the only one that we have.",
        "Could you look into {thing}? Right now {s}.",
        "Since last week {s}. This is about {thing}.",
        "{Thing} needs your help, {s}.",
    ),
    contexts=(
        "",
        "It began this morning.",
        "The number of my order is {n}.",
        "I need it again on Monday.",
        "Everything worked fine until yesterday.",
    ),
    questions=(
        "",
        "What do you think I should do?",
        "How can I get it fixed?",
        "Where do I start?",
    ),
)

NEUTRAL_FILLERS = (
    "Problems like this one can have many different causes.",
    "A {product} of this type has many small parts and settings.",
    "It usually takes only a few minutes.",
    "In many cases the cause is hard to see from the outside.",
    "I looked through our notes and found several similar cases.",
    "Some customers wait for a day and then look at it again.",
    "Your {product} was tested before it left our warehouse.",
    "We write down each report, so that the next model gets better.",
    "There are many reports of this sort every week.",
    "You can do this with one hand and without any tools.",
    "The {product} will show a short message when it is ready.",
    "Most of the time nothing is broken at all.",
    "It does not matter which version of the {product} you own.",
    "After that, wait for about a minute before you use it.",
    "The same thing can happen after an update or a long break.",
    "I will also put a note about this into your file.",
    "A colleague of mine had the same {product} on the desk last month.",
    "Nothing will be lost while you do this.",
)

POLITE = Manner(
    openings=(
        "Thank you for your message.",
        "Thank you for contacting our support team.",
        "Hello, and thanks for writing to us.",
        "I am sorry to hear that.",
        "I am very sorry about the trouble with your {product}.",
        "Hello, I am happy to help.",
        "Thanks for telling us about this.",
        "Our apologies for the trouble.",
        "Sorry about that.",
    ),
    advice=(
        "Please {fix}.",
        "Please {fix}.",
        "Could you please {fix}?",
        "Kindly {fix}.",
        "To solve this, please {fix}.",
        "May I ask you to {fix}?",
        "I would suggest that you {fix}, please.",
        "Please try this: {fix}.",
    ),
    repeats=(
        "So once more, please {fix}.",
        "As I said, please {fix}.",
        "If you are not sure, please {fix} and look again.",
    ),
    evasions=(
        "Please have a look at the manual.",
        "Please wait a little and try again.",
        "Could you please send us a photo of it?",
        "Please tell us more about it.",
        "I will kindly pass this on to a colleague.",
        "Please bring it to one of our shops.",
    ),
    fillers=(
        "I understand very well how annoying this must be for you.",
        "We appreciate your patience and your trust in our products.",
        "It is always a pleasure to hear from our customers.",
        "I would be glad to stay with you until it works again.",
        "You are welcome to write to us at any time of the day.",
        "I am really sorry that you have to spend your time on this.",
    ),
    closings=(
        "Thank you for your patience.",
        "I am happy to help further.",
        "Thank you and have a nice day.",
        "Kind regards from the support team.",
        "Please let me know if it works.",
        "You are welcome to write again.",
        "Thank you!",
    ),
)

CURT = Manner(
    openings=(
        "Look.",
        "Right.",
        "Known issue.",
        "Not again.",
        "Same old story.",
        "Okay, listen.",
        "Another broken {product}.",
        "We had this one before.",
    ),
    advice=(
        "{Fix}.",
        "{Fix}.",
        "Just {fix}.",
        "You have to {fix}.",
        "You should {fix}.",
        "The answer is simple: {fix}.",
        "Go and {fix}.",
        "{Fix}, then it works.",
    ),
    repeats=(
        "Again, {fix}.",
        "As I said, {fix}.",
        "So {fix} and do not write back.",
    ),
    evasions=(
        "Read the manual.",
        "No idea.",
        "Wait and try again.",
        "Ask somebody else.",
        "That is not our problem.",
        "Try something else.",
        "Buy a new {product}.",
    ),
    fillers=(
        "You could have found this on your own.",
        "This is in the manual that nobody reads.",
        "I have to answer this question ten times a day.",
        "It is not the fault of the {product}.",
        "Nobody else complains about it.",
        "I do not have time to explain every detail of it.",
    ),
    closings=(
        "That is all.",
        "Case closed.",
        "Next time read the manual.",
        "Do not ask again.",
        "Nothing more to say.",
        "It is not that hard.",
    ),
)
