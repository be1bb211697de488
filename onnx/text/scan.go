package text

import (
	"fmt"
	"strconv"
	"strings"
)

// Error is a fault in a text, with its place counted from 1.
type Error struct {
	File      string
	Line, Col int
	Msg       string
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg) }

// scanner splits src[pos:end] into tokens. After the first fault it stands at the end, so that every loop ends.
type scanner struct {
	file   string
	src    string
	pos    int
	end    int
	err    error
	notes  []note
	inNote bool // strings are Go strings, comments do not exist
}

// note is one "#@key arguments" line.
type note struct {
	key        string
	at         int
	start, end int
}

func (s *scanner) fail(at int, format string, args ...any) {
	if s.err == nil {
		line := 1 + strings.Count(s.src[:at], "\n")
		col := at - strings.LastIndexByte(s.src[:at], '\n')
		s.err = &Error{s.file, line, col, fmt.Sprintf(format, args...)}
	}
	s.pos = s.end
	s.notes = nil
}

func isAlpha(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// skip passes white space and comments, and keeps the notes among them.
func (s *scanner) skip() {
	for s.pos < s.end {
		switch c := s.src[s.pos]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f':
			s.pos++
		case c == '#' && !s.inNote:
			stop := s.end
			if i := strings.IndexByte(s.src[s.pos:s.end], '\n'); i >= 0 {
				stop = s.pos + i
			}
			if strings.HasPrefix(s.src[s.pos:stop], "#@") {
				n := note{at: s.pos, start: s.pos + 2, end: stop}
				for n.start < stop && (isAlpha(s.src[n.start]) || s.src[n.start] == '.') {
					n.start++
				}
				n.key = s.src[s.pos+2 : n.start]
				s.notes = append(s.notes, n)
			}
			s.pos = stop
		default:
			return
		}
	}
}

// token skips to the next token and refuses notes that no item has claimed.
func (s *scanner) token() {
	s.skip()
	if len(s.notes) > 0 {
		s.fail(s.notes[0].at, "#@%s stands before nothing it could belong to", s.notes[0].key)
	}
}

// peek is the next byte after white space; 0 at the end.
func (s *scanner) peek() byte {
	s.skip()
	if s.pos >= s.end {
		return 0
	}
	return s.src[s.pos]
}

func (s *scanner) atEnd() bool { s.skip(); return s.pos >= s.end }

func (s *scanner) accept(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.token()
	if s.pos < s.end {
		s.pos++
	}
	return true
}

func (s *scanner) expect(c byte) {
	if !s.accept(c) {
		s.fail(s.pos, "expected %q, found %s", string(c), s.found())
	}
}

func (s *scanner) found() string {
	if s.pos >= s.end {
		return "the end of the text"
	}
	stop := s.pos
	for stop < s.end && stop-s.pos < 20 && s.src[stop] > ' ' {
		stop++
	}
	return strconv.Quote(s.src[s.pos:max(stop, s.pos+1)])
}

// peekIdent is the identifier that comes next, or "".
func (s *scanner) peekIdent() string {
	if !isAlpha(s.peek()) {
		return ""
	}
	i := s.pos
	for i < s.end && (isAlpha(s.src[i]) || isDigit(s.src[i])) {
		i++
	}
	return s.src[s.pos:i]
}

// ident consumes an identifier if there is one.
func (s *scanner) ident() string {
	id := s.peekIdent()
	if id != "" {
		s.token()
		if s.pos < s.end {
			s.pos += len(id)
		}
	}
	return id
}

func (s *scanner) needIdent(what string) string {
	id := s.ident()
	if id == "" {
		s.fail(s.pos, "expected %s, found %s", what, s.found())
	}
	return id
}

// name consumes a quotable identifier; ok is false when there is none.
func (s *scanner) name() (string, bool) {
	if s.peek() == '"' {
		return s.str(), s.err == nil
	}
	id := s.ident()
	return id, id != ""
}

func (s *scanner) needName(what string) string {
	n, ok := s.name()
	if !ok {
		s.fail(s.pos, "expected %s, found %s", what, s.found())
	}
	return n
}

// str consumes a quoted string.
func (s *scanner) str() string {
	s.token()
	at := s.pos
	if at >= s.end || s.src[at] != '"' {
		s.fail(at, "expected a string, found %s", s.found())
		return ""
	}
	if s.inNote {
		q, err := strconv.QuotedPrefix(s.src[at:s.end])
		if err != nil {
			s.fail(at, "malformed string")
			return ""
		}
		s.pos += len(q)
		v, err := strconv.Unquote(q)
		if err != nil {
			s.fail(at, "malformed string")
		}
		return v
	}
	var b strings.Builder
	for i := at + 1; i < s.end; i++ {
		switch c := s.src[i]; c {
		case '"':
			s.pos = i + 1
			return b.String()
		case '\\':
			if i++; i < s.end {
				b.WriteByte(s.src[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	s.fail(at, "the string that begins here does not end")
	return ""
}

// literal consumes a number, "inf", "infinity" or "nan" with an optional sign; isInt tells whether it has neither point nor exponent.
func (s *scanner) literal() (lit string, isInt bool) {
	s.token()
	at := s.pos
	i := at
	if i < s.end && s.src[i] == '-' {
		i++
	}
	if i < s.end && isAlpha(s.src[i]) {
		j := i
		for j < s.end && isAlpha(s.src[j]) {
			j++
		}
		switch strings.ToLower(s.src[i:j]) {
		case "inf", "infinity", "nan":
			s.pos = j
			return s.src[at:j], false
		}
		s.fail(at, "expected a number, found %s", s.found())
		return "", false
	}
	isInt = true
	digits := i
	for i < s.end && (isDigit(s.src[i]) || s.src[i] == '.') {
		isInt = isInt && s.src[i] != '.'
		i++
	}
	if i == digits {
		s.fail(at, "expected a number, found %s", s.found())
		return "", false
	}
	if i < s.end && s.src[i]|0x20 == 'e' {
		isInt = false
		if i++; i < s.end && (s.src[i] == '+' || s.src[i] == '-') {
			i++
		}
		for i < s.end && isDigit(s.src[i]) {
			i++
		}
	}
	s.pos = i
	return s.src[at:i], isInt
}

func (s *scanner) int64() int64 {
	s.skip()
	at := s.pos
	lit, _ := s.literal()
	if s.err != nil {
		return 0
	}
	v, err := strconv.ParseInt(lit, 10, 64)
	if err != nil {
		s.fail(at, "%q is not a 64-bit integer", lit)
	}
	return v
}

// word consumes everything up to white space; notes use it for hexadecimal digits.
func (s *scanner) word() string {
	s.skip()
	at := s.pos
	for s.pos < s.end && s.src[s.pos] > ' ' {
		s.pos++
	}
	return s.src[at:s.pos]
}
