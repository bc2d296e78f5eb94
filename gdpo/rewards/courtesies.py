"""What counts as courtesy and as rudeness, as data.

English entries are phrases: they match whole words, in any case. Japanese entries are patterns,
because the language has no word gaps and some markers only count at the end of a sentence or unless
something follows. The lists favour what help desks write, and leave out what a polite reply may say
too ("not your fault").
"""

from __future__ import annotations

# A reply shows a courtesy or it does not: the second "thank you" earns nothing. One entry for each
# kind of courtesy: (English phrases, Japanese patterns).
COURTESIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "greeting": (
        (
            "hello", "hi", "dear", "good morning", "good afternoon", "good evening", "welcome to",
            "nice to meet you",
        ),
        (
            "こんにちは", "こんばんは", "おはようございます", "はじめまして", "初めまして",
            "ようこそ", "いらっしゃいませ", "お世話になっ", "お世話になり", "お疲れ様",
            "お疲れさま",
        ),
    ),
    "thanks": (
        (
            "thank you", "thanks", "many thanks", "we appreciate", "i appreciate",
            "much appreciated", "grateful", "thankful",
        ),
        (
            "ありがとう", "有難う", "有り難う", "感謝", "お礼", "御礼",
        ),
    ),
    "empathy": (
        (
            "sorry", "apologies", "apologise", "apologize", "apology", "i understand",
            "we understand", "regret", "inconvenience", "frustrating", "pardon", "excuse me",
        ),
        (
            "申し訳", "すみません", "すいません", "ごめんなさい", "お詫び", "おわび", "恐れ入り",
            "恐縮", "ご不便", "ご迷惑", "ご心配", "お待たせ", "お困り", "お手数",
            "失礼いたしました", "失礼しました",
        ),
    ),
    "request": (
        (
            "please", "kindly", "could you", "would you", "may i", "could i", "would you mind",
            "if possible", "if you like", "when you have a moment", "at your convenience",
        ),
        (
            "ください", "下さい", "くださいませ", "お願い", "いただけ", "頂け", "いただきたく",
            "よろしければ", "差し支えなければ", "でしょうか", "ご確認", "お試し", "ご覧",
        ),
    ),
    "offer of help": (
        (
            "happy to", "glad to", "let me know", "let us know", "here to help", "here for you",
            "feel free", "anything else", "to help you", "assist you", "can i help", "can we help",
            "do not hesitate", "don't hesitate", "my pleasure", "reach out", "contact us",
        ),
        (
            "お手伝い", "お役に立", "お力になれ", "サポート(?:いた|させ|し)", "ご案内", "お気軽に",
            "ご連絡", "ご相談", "お問い合わせ", "ご遠慮なく", "対応いたし", "お申し付け",
            "お知らせください",
        ),
    ),
    "polite form": (
        (
            "certainly", "of course", "you're welcome", "you are welcome", "kind regards",
            "best regards", "best wishes", "sincerely", "have a nice day", "have a great day",
            "have a good day", "good luck", "sir", "madam", "ma'am", "gladly",
        ),
        (
            # Desu/masu endings count at the end of a sentence only: not 「ますます」.
            r"(?:です|ます|ました|ません|ませんでした"
            r"|でした|でしょう|ましょう|ございます|いたします)"
            r"(?:か|ね|よ|が)?(?=[。．.!?、,)」』\s]|$)",
            "かしこまりました", "承知いたしました", "承知しました", "承りました", "ございます",
        ),
    ),
}  # fmt: skip

# Each different marker lowers the reward: (English phrases, Japanese patterns).
RUDENESS: tuple[tuple[str, ...], tuple[str, ...]] = (
    (
        "stupid", "idiot", "idiots", "idiotic", "dumb", "moron", "fool", "foolish", "shut up",
        "hurry up", "not my problem", "not our problem", "your own fault", "i don't care",
        "we don't care", "who cares", "figure it out yourself", "deal with it yourself",
        "stop asking", "stop whining", "stop bothering", "don't bother", "leave me alone", "rtfm",
        "are you blind", "obviously", "use your brain", "nonsense", "ridiculous", "pathetic",
        "crap", "damn",
    ),
    (
        "馬鹿", r"ばか(?:者|野郎|げ|ばかし|[だな。!?\s])", "バカ(?!ンス|ラ|ロ)",
        "アホ(?!ウドリ|ートル)", "阿呆", "うるさい", "うるせ", "うざい", "ウザい", "黙れ", "だまれ",
        "ふざけるな", "ふざけんな", "知るか", "知らねえ", "知らねー", "知らん", "勝手にしろ",
        "勝手にして", "自分でやれ", "自分で調べろ", "自分で考えろ", "お前", "おまえ", "てめえ",
        "てめー", "貴様", "きさま", "消えろ", "めんどくさい", "面倒くさい", "くだらない",
        "役立たず", "文句を言うな", "いい加減にしろ", "さっさと", "クソ", "くそ(?:[がっだ]|野郎)",
    ),
)  # fmt: skip
