package rebatch

import (
	"maps"
	"slices"
)

// RuleNames lists the operators that have a rule.
func RuleNames() []string {
	return slices.Sorted(maps.Keys(rules))
}
