"""Random templates with what jinja2 makes of them, a case a line for run_cases.

    python tests/template/generate.py COUNT SEED >cases.jsonl        # needs jinja2 and transformers

Templates grow from a grammar of the subset that Drover has: mostly of expressions that mean something, now and then of one that
does not, so that jinja2 raises. The same seed gives the same templates. Left out is what jinja2 shows as an address in memory, whole
numbers beyond 64 bits, which Drover refuses, and what jinja2 makes of constants before it runs: `none[1:]` is undefined, while `x[1:]` raises.
"""

import json
import random
import re
import sys
import warnings

import reference

WORDS = ["a", "user", "Ann", "hello world", "x y", "Größe", "你好", "👋🏽", "<b>", "it's", 'say "x"', "", " ", "\n", " pad ", "a,b,c", "line\nbreak\n", "12", "-3", "2.5", "</think>", "{x}", "%s", "\t", "é", "UPPER", "ﬁ"]
NAMES = ["a", "b", "c", "s", "t", "n", "m", "xs", "ys", "d", "e", "users"]
KEYS = ["a", "b", "role", "name", "content", "x y", "items", "Z"]


class Generator:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.depth = 0
        self.loops = 0
        self.macros = []
        self.spaces = []
        self.kinds = {}

    def pick(self, *options):
        return self.r.choice(options)

    def chance(self, p):
        return self.r.random() < p

    # Variables

    def value(self, depth=0):
        kind = self.r.randrange(9 if depth < 3 else 6)
        if kind == 0: return self.r.randrange(-9, 100)
        if kind == 1: return self.pick(0.5, 2.0, -1.25, 1e-7, 1e20, 3.14159)
        if kind == 2: return self.pick(True, False)
        if kind == 3: return None
        if kind in (4, 5): return self.word()
        if kind == 6: return [self.value(depth + 1) for _ in range(self.r.randrange(4))]
        if kind == 7: return [self.word() for _ in range(self.r.randrange(5))]
        return {self.r.choice(KEYS): self.value(depth + 1) for _ in range(self.r.randrange(4))}

    def word(self):
        return "".join(self.r.choice(WORDS) for _ in range(self.r.randrange(1, 3)))

    def variables(self):
        values = {"s": self.word(), "t": self.word(), "n": self.r.randrange(-5, 30), "m": self.r.randrange(0, 6), "xs": [self.r.randrange(-5, 20) for _ in range(self.r.randrange(6))],
                  "ys": [self.word() for _ in range(self.r.randrange(5))], "d": {k: self.value(2) for k in self.r.sample(KEYS, self.r.randrange(5))}, "e": self.value(),
                  "users": [{"name": self.word(), "age": self.r.randrange(3), "on": self.chance(0.5)} for _ in range(self.r.randrange(4))]}
        for name in "abc":
            if self.chance(0.7): values[name] = self.value()
        self.kinds = {name: kind for name, kind in dict(s="string", t="string", n="int", m="int", xs="ints", ys="strings", d="dict", users="users").items()}
        return values

    # Expressions of a kind; `any` may be anything at all

    def named(self, kind):
        names = [name for name, k in self.kinds.items() if k == kind]
        return self.r.choice(names) if names else None

    def expression(self, kind):
        self.depth += 1
        try:
            if self.chance(0.01): kind = "any"
            if self.depth > 4: return self.leaf(kind)
            if self.chance(0.03): return f"({self.expression(kind)} if {self.expression('bool')} else {self.expression(kind)})"
            return getattr(self, kind)()
        finally:
            self.depth -= 1

    def leaf(self, kind):
        name = self.named(kind)
        if name and self.chance(0.7): return name
        return {"string": self.literal, "int": lambda: str(self.r.randrange(-4, 12)) if self.chance(0.8) else "m", "bool": lambda: self.pick("true", "false"), "ints": lambda: "xs",
                "strings": lambda: "ys", "dict": lambda: "d", "users": lambda: "users", "any": lambda: self.pick("a", "b", "c", "e", "missing", "[]", "{}", "''"), "float": lambda: self.pick("2.5", "-0.5", "1e3", "0.1")}[kind]()

    def literal(self):
        text = self.word()
        quote = self.pick("'", '"')
        return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote).replace("\n", self.pick("\\n", "\n")) + quote

    def string(self):
        x = lambda kind="string": self.expression(kind)
        o = self.r.randrange(36)
        if o < 7: return self.leaf("string")
        if o == 7: return f"{x()} + {x()}"
        if o < 10: return f"{x()} ~ {x(self.pick('string', 'int', 'any', 'ints', 'bool', 'dict', 'float'))}"
        if o == 10: return f"({x()}) | {self.pick('trim', 'upper', 'lower', 'title', 'capitalize', 'string', 'safe', 'tojson', 'trim | upper', 'reverse', 'first', 'last', 'indent', 'default')}"
        if o == 11: return f"({x()}) | replace({x()}, {x()}{self.pick('', '', ', 1', ', 2')})"
        if o == 12: return f"({x()}).{self.pick('strip', 'lstrip', 'rstrip')}({self.pick('', '', x())})"
        if o == 13: return f"({x()}).{self.pick('upper', 'lower', 'title', 'capitalize', 'swapcase')}()"
        if o == 14: return f"({x()}).replace({x()}, {x()}{self.pick('', '', ', 1')})"
        if o == 15: return f"({x()}).split({self.pick('', x())}){self.pick('[0]', '[-1]', ' | first', ' | last')}"
        if o == 16: return f"({x()})[{self.slice()}]"
        if o == 17: return f"({x()})[{x('int')}]"
        if o == 18: return f"({x(self.pick('ints', 'strings', 'strings', 'any', 'dict'))}) | join({self.pick('', x())})"
        if o == 19: return f"({x()}).join({x('strings')})"
        if o == 20: return f"({x(self.pick('any', 'dict', 'ints', 'users', 'strings', 'float'))}) | tojson({self.pick('', '', 'indent=2', 'indent=4', 'ensure_ascii=true', 'sort_keys=true')})" if not self.chance(0.2) else f"({x('string')}) | tojson"
        if o == 21: return f"({x('any')}) | string"
        if o == 22: return f"({x()}) | indent({self.pick('2', '1, true', '3, blank=true', 'first=true')})"
        if o == 23: return f"({x()}) * {self.pick('2', '3', 'm', '0', '-1')}"
        if o == 24: return f"{self.pick(repr('%s-%s'), repr('%5s|%-4s'), repr('%s%r'))} % ({x()}, {x(self.pick('int', 'string'))})"
        if o == 25: return f"{self.pick(repr('{} {}'), repr('{1}{0}'), repr('{:>6}|{:<6}'), repr('{!r}{}'))}.format({x()}, {x(self.pick('int', 'string'))})"
        if o == 26: return f"{self.pick(repr('{:d}'), repr('{:04d}'), repr('{:,}'), repr('{:x}'), repr('{:+}'))}.format({x('int')})"
        if o == 27: return f"({x('users')} | map(attribute='name') | join({x()}))"
        if o == 28: return f"({x('dict')}).get({x()}, {x()})"
        if o == 29: return f"d[{self.literal() if self.chance(0.3) else repr(self.r.choice(KEYS))}]"
        if o == 30: return f"d.{self.pick('a', 'b', 'role', 'name', 'content', 'Z')}"
        if o == 31: return f"({x('any')}) | default({x()}{self.pick('', ', true')})"
        if o == 32: return f"({x()}).{self.pick('center', 'ljust', 'rjust', 'zfill')}({self.pick('5', '9', 'n')})"
        if o == 33: return f"({x('float')}) | round({self.pick('', '1', '2', '-1')}) | string"
        if o == 34 and self.macros: return self.call()
        if o == 35 and self.loops: return self.pick("loop.index ~ ''", "loop.cycle('p', 'q')", "loop.previtem ~ ''", "loop.nextitem ~ ''", "(loop.previtem | default('none')) ~ ''")
        return f"({x('strings')}) | {self.pick('first', 'last', 'min', 'max')}"

    def int(self):
        x = lambda kind="int": self.expression(kind)
        o = self.r.randrange(19)
        if o < 5: return self.leaf("int")
        if o < 8: return f"{x()} {self.pick('+', '-', '*')} {x()}"
        if o == 8: return f"({x()}) {self.pick('//', '%')} ({x()})"
        if o == 9: return f"({x(self.pick('string', 'ints', 'strings', 'dict', 'users'))}) | {self.pick('length', 'count')}"
        if o == 10: return f"({x(self.pick('string', 'float', 'any'))}) | int{self.pick('', '(7)')}"
        if o == 11: return f"-({x()})"
        if o == 12: return f"({x()}) | abs"
        if o == 13: return f"({x()}).{self.pick('count', 'find', 'rfind')}({x('string')})" if self.chance(0.1) else f"({x('string')}).{self.pick('count', 'find', 'rfind', 'index')}({x('string')})"
        if o == 14: return f"({x('ints')}) | {self.pick('sum', 'min', 'max', 'first', 'last')}"
        if o == 15: return f"({x('ints')})[{x()}]"
        if o == 16 and self.loops: return self.pick("loop.index", "loop.index0", "loop.revindex", "loop.revindex0", "loop.length", "loop.depth")
        if o == 17: return self.pick("2 ** 3", "2 ** m", "true + 1", "users | sum(attribute='age')")
        if o == 18 and self.spaces: return self.r.choice(self.spaces) + ".v"
        return str(self.r.randrange(20))

    def float(self):
        x = self.expression
        o = self.r.randrange(6)
        if o < 2: return self.leaf("float")
        if o == 2: return f"({x('int')}) / ({x('int')})"
        if o == 3: return f"({x('float')}) {self.pick('+', '-', '*', '//', '%')} ({x(self.pick('int', 'float'))})"
        if o == 4: return f"({x('float')}) | round({self.pick('', '1', '2, ' + repr('ceil'), '0, ' + repr('floor'))})"
        return f"({x(self.pick('string', 'int'))}) | float"

    def bool(self):
        x = self.expression
        o = self.r.randrange(16)
        if o < 2: return self.leaf("bool")
        if o == 2: return f"not ({x('bool')})"
        if o == 3: return f"({x('bool')}) {self.pick('and', 'or')} ({x('bool')})"
        if o == 4: return f"{x('int')} {self.pick('<', '<=', '>', '>=', '==', '!=')} {x(self.pick('int', 'int', 'float'))}"
        if o == 5: return f"{x('string')} {self.pick('<', '==', '!=', '>')} {x('string')}"
        if o == 6: return f"({x('string')}) {self.pick('in', 'not in')} ({x(self.pick('string', 'strings', 'dict'))})"
        if o == 7: return f"({x('int')}) in ({x('ints')})"
        if o == 8: return f"({x(self.pick('any', 'string', 'int', 'dict', 'ints', 'float'))}) is {self.pick('', 'not ')}{self.pick('string', 'number', 'integer', 'float', 'mapping', 'iterable', 'sequence', 'none', 'defined', 'undefined', 'boolean', 'true', 'false')}"
        if o == 9: return f"({x('int')}) is {self.pick('odd', 'even', 'divisibleby(3)', 'divisibleby 2', 'eq 3', 'gt 2')}"
        if o == 10: return f"({x('string')}).{self.pick('startswith', 'endswith')}({x('string')})"
        if o == 11: return f"({x('string')}).{self.pick('isdigit', 'isalpha', 'isspace', 'isupper', 'islower', 'isalnum')}()"
        if o == 12 and self.loops: return self.pick("loop.first", "loop.last", "not loop.last", "loop.previtem is defined")
        if o == 13: return f"{x('any')} {self.pick('==', '!=')} {x('any')}"
        if o == 14: return f"{x('int')} < {x('int')} <= {x('int')}"
        return f"({x('string')}) is {self.pick('lower', 'upper', 'string', 'in ys')}"

    def ints(self):
        x = self.expression
        o = self.r.randrange(12)
        if o < 3: return self.leaf("ints")
        if o == 3: return f"[{', '.join(x('int') for _ in range(self.r.randrange(4)))}]"
        if o == 4: return f"range({self.pick('m', '4', '1, 5', '5, 0, -2', 'n % 7')}) | list"
        if o == 5: return f"({x('ints')})[{self.slice()}]"
        if o == 6: return f"({x('ints')} | {self.pick('sort', 'reverse | list', 'unique | list', 'sort(reverse=true)', 'list')})"
        if o == 7: return f"{x('ints')} + {x('ints')}"
        if o == 8: return f"({x('ints')} | {self.pick('select', 'reject')}({self.pick(repr('odd'), repr('even'), repr('gt') + ', 3', repr('in') + ', xs', '')}) | list)"
        if o == 9: return f"({x('strings')} | map('length') | list)"
        if o == 10: return "(users | map(attribute='age') | list)"
        return f"({x('ints')} | map('abs') | list)"

    def strings(self):
        x = self.expression
        o = self.r.randrange(15)
        if o < 3: return self.leaf("strings")
        if o == 3: return f"[{', '.join(x('string') for _ in range(self.r.randrange(4)))}]"
        if o == 4: return f"({x('string')}).split({self.pick('', '', x('string'), x('string') + ', 1')})"
        if o == 5: return f"({x('strings')})[{self.slice()}]"
        if o == 6: return f"({x('strings')} | {self.pick('sort', 'reverse | list', 'unique | list', 'sort(reverse=true)', 'list', 'sort(case_sensitive=true)')})"
        if o == 7: return f"({x('strings')} | map({self.pick(*map(repr, ('upper', 'trim', 'lower', 'title', 'string', 'capitalize', 'tojson')))}) | list)"
        if o == 8: return f"({x('strings')} | {self.pick('select', 'reject')}({self.pick('', repr('in') + ', s', repr('equalto') + ', t', repr('lower'))}) | list)"
        if o == 9: return f"({x('dict')}).keys() | list"
        if o == 10: return f"(users | {self.pick('selectattr', 'rejectattr')}({self.pick(repr('on'), repr('age') + ', ' + repr('equalto') + ', 1', repr('age') + ', ' + repr('gt') + ', 0', repr('nope') + ', ' + repr('defined'))}) | map(attribute='name') | list)"
        if o == 11: return f"({x('string')}) | list"
        if o == 12: return f"({x('string')}).splitlines()"
        if o == 13: return f"({x('string')}).{self.pick('rsplit', 'split')}({x('string')}, 1)"
        return f"(({x('dict')}) | dictsort | map('first') | list)"

    def dict(self):
        x = self.expression
        o = self.r.randrange(7)
        if o < 4: return self.leaf("dict")
        if o == 4: return "{" + ", ".join(f"{self.literal()}: {x(self.pick('int', 'string', 'any', 'ints'))}" for _ in range(self.r.randrange(4))) + "}"
        if o == 5: return f"dict({x('dict')}, {self.pick('a', 'k')}={x('string')})"
        return "users[0]"

    def users(self):
        return self.pick("users", "users[1:]", "users[::-1]", "users | selectattr('on') | list", "users | sort(attribute='age')")

    def any(self):
        o = self.r.randrange(14)
        if o < 6: return self.leaf("any")
        if o == 6: return f"({self.expression('any')}).{self.pick('a', 'b', 'x', 'name')}" if self.chance(0.5) else f"d.{self.r.choice('abZ')}.x"
        if o == 7: return f"({self.expression('any')})[{self.expression(self.pick('int', 'string'))}]"
        if o == 8: return f"({self.expression('any')}, {self.expression('any')})"
        if o == 9: return f"[{self.expression('any')}, {self.expression('any')}]"
        if o == 10: return f"{self.expression('any')} {self.pick('or', 'and')} {self.expression('any')}"
        return self.expression(self.pick("string", "int", "bool", "ints", "strings", "dict", "float"))

    def slice(self):
        part = lambda: self.pick("", "", "1", "2", "-1", "-2", "m", "0")
        return f"{part()}:{part()}{self.pick('', '', ':-1', ':2', ':-2')}"

    def call(self):
        name, parameters = self.r.choice(self.macros)
        given = parameters[:self.r.randrange(len(parameters) + 1)]
        arguments = [f"{p}={self.expression(self.pick('string', 'int'))}" if self.chance(0.3) else None for p in given]
        positional = True
        for i, argument in enumerate(arguments):
            if argument is None:
                arguments[i] = self.expression(self.pick("string", "int", "any")) if positional else f"{given[i]}=1"
            else:
                positional = False
        return f"{name}({', '.join(arguments)})"

    # Statements

    def open(self):
        return "{%" + self.pick("", "", "-", "+" if self.chance(0.2) else "")

    def close(self):
        return self.pick("", "", "-", "+" if self.chance(0.1) else "") + "%}"

    def tag(self, body):
        return f"{self.open()} {body} {self.close()}"

    def output(self):
        kind = self.pick("string", "string", "string", "int", "bool", "any", "ints", "strings", "float", "dict")
        return f"{{{{{self.pick('', '', '-')} {self.expression(kind)} {self.pick('', '', '-')}}}}}"

    def text(self):
        return self.pick(" ", "\n", "\n\n", "  \n", "text", " a ", "\n  ", "é", "{", "}", "|", "\t", "", "", "{# c #}", "{#- c -#}", "\r\n", "a b\n")

    def block(self, length=None):
        return "".join(self.statement() + self.text() for _ in range(length or self.r.randrange(1, 4)))

    def statement(self):
        self.depth += 1
        try:
            o = self.r.randrange(30) if self.depth < 5 else self.r.randrange(10)
            if o < 10: return self.output()
            if o < 14:
                middle = "".join(self.tag("elif " + self.expression("bool")) + self.block() for _ in range(self.r.randrange(2)))
                return self.tag("if " + self.expression(self.pick("bool", "bool", "any"))) + self.text() + self.block() + middle + (self.tag("else") + self.block() if self.chance(0.5) else "") + self.tag("endif")
            if o < 19: return self.loop()
            if o < 23:
                kind = self.pick("string", "int", "any", "ints", "strings", "dict")
                name = self.pick("a", "b", "c", "s", "n", "p", "q")
                value = self.expression(kind)
                if self.loops == 0: self.kinds[name] = kind
                return self.tag(f"set {name} = {value}")
            if o == 23:
                name = self.pick("p", "q", "s")
                return self.tag(f"set {name}{self.pick('', '', ' | upper', ' | trim')}") + self.block() + self.tag("endset")
            if o == 24:
                name = "ns" + str(len(self.spaces))
                self.spaces.append(name)
                return self.tag(f"set {name} = namespace(v={self.expression('int')}, w={self.expression('string')})")
            if o == 25 and self.spaces:
                name = self.r.choice(self.spaces)
                return self.tag(f"set {name}.v = {name}.v + {self.expression('int')}") + f"{{{{ {name}.v }}}}"
            if o == 26 and self.depth < 3: return self.macro()
            if o == 27 and self.macros: return "{{ " + self.call() + " }}"
            if o == 28: return self.tag("raw") + self.pick("{{ x }}", " {% if %} ", "\n{# #}\n", "") + self.tag("endraw") if self.chance(0.5) else self.tag("generation") + self.block() + self.tag("endgeneration")
            if o == 29 and self.chance(0.2): return "{{ raise_exception(" + self.expression("string") + ") }}"
            return self.text()
        finally:
            self.depth -= 1

    def loop(self):
        kind = self.pick("ints", "strings", "users", "dict", "string", "pairs")
        name = self.pick("i", "j", "x")
        before = dict(self.kinds)
        if kind == "pairs":
            head = f"for k, v in {self.expression('dict')}{self.pick('.items()', ' | items', ' | dictsort')}"
            self.kinds.update(k="string")
        else:
            head = f"for {name} in {self.expression(kind)}"
            self.kinds[name] = {"ints": "int", "strings": "string", "users": "dict", "dict": "string", "string": "string"}[kind]
            if self.chance(0.25): head += f" if {self.pick(name + ' is defined', self.expression('bool') if self.loops == 0 else name + ' == ' + name)}"
        self.loops += 1
        body = self.block()
        if self.chance(0.2): body += self.tag("if " + self.expression("bool")) + self.tag(self.pick("break", "continue")) + self.tag("endif") + self.block(1)
        self.loops -= 1
        self.kinds = before
        return self.tag(head) + self.text() + body + (self.tag("else") + self.block(1) if self.chance(0.2) else "") + self.tag("endfor")

    def macro(self):
        parameters = self.r.sample(["u", "v", "w"], self.r.randrange(3))
        name = "macro" + str(len(self.macros))
        defaults = [p if self.chance(0.6) else None for p in parameters]
        first = next((i for i, p in enumerate(defaults) if p is None), len(parameters))
        shown = [p if i < first else f"{p}={self.expression(self.pick('string', 'int'))}" for i, p in enumerate(parameters)]
        before, loops, self.loops = dict(self.kinds), self.loops, 0
        self.kinds.update({p: "string" for p in parameters})
        body = self.block()
        self.kinds, self.loops = before, loops
        text = self.tag(f"macro {name}({', '.join(shown)})") + body + self.tag("endmacro")
        self.macros.append((name, parameters))
        return text


def make(seed):
    """A case, or None where what jinja2 shows has no meaning elsewhere."""
    generator = Generator(seed)
    variables = generator.variables()
    source = generator.block(generator.r.randrange(1, 6))
    case = {"name": str(seed), "source": source, "variables": variables, **reference.expect(source, variables)}
    if "error" in case and not generator.chance(0.15): return None  # most that grow are of this kind
    text = case.get("text", "")
    if " at 0x" in text or "<generator" in text or "<Macro" in text or "<built-in" in text or "bound method" in text or len(text) > 20000 or re.search(r"\d{19}", text): return None
    return case


def main():
    warnings.simplefilter("ignore")  # of Python, on what it compiles
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    while count > 0:
        case = make(seed)
        seed += 1
        if case is None: continue
        sys.stdout.write(json.dumps(case, ensure_ascii=False, allow_nan=True) + "\n")
        count -= 1


if __name__ == "__main__":
    main()
