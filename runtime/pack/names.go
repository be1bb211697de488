package pack

import (
	"strconv"
	"strings"
)

// identifier makes a C identifier of at most limit characters out of a name.
func identifier(name string, limit int) string {
	s := strings.Map(func(r rune) rune {
		if r == '_' || isAlnum(r) {
			return r
		}
		return '_'
	}, name)
	s = s[:min(len(s), limit)]
	if s == "" || s[0] >= '0' && s[0] <= '9' || s[0] == '_' {
		s = "w" + s
	}
	return s
}

func isAlnum(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// fileName makes a name out of a tensor's that stays in its folder on every file system: letters, digits and ._-+=@, no dot in
// front, at most 150 characters.
func fileName(name string) string {
	s := strings.Map(func(r rune) rune {
		if isAlnum(r) || strings.ContainsRune("._-+=@", r) {
			return r
		}
		return '_'
	}, name)
	s = s[:min(len(s), 150)]
	if s == "" || s[0] == '.' {
		s = "_" + s
	}
	return s
}

// unique hands out names once, numbering repetitions: x, x_2, x_3.
type unique struct {
	taken map[string]bool
	next  map[string]int
}

func newUnique() *unique { return &unique{taken: map[string]bool{}, next: map[string]int{}} }

// take returns name, or name_N when it is taken. fold makes names that must not stand side by side equal; nil keeps all apart.
func (u *unique) take(name string, fold func(string) string) string {
	if fold == nil {
		fold = func(s string) string { return s }
	}
	key := fold(name)
	got := name
	for n := max(2, u.next[key]); u.taken[fold(got)]; n++ {
		got = name + "_" + strconv.Itoa(n)
		u.next[key] = n + 1
	}
	u.taken[fold(got)] = true
	return got
}
