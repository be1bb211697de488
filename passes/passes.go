// Package passes runs passes over models: it checks their order, verifies the graph after each, times, dumps, and keeps what is
// needed to reproduce a failure. The table of all passes is here; each pass has a package of its own.
package passes

import (
	"mqatc/passes/clean"
	"mqatc/passes/fold"
	"mqatc/passes/pass"
	"mqatc/passes/rebatch"
)

// Table lists all passes in the order in which they run where several do.
var Table = []pass.Info{
	clean.Info,
	rebatch.Info,
	fold.Info,
}

// Find returns the row of a pass.
func Find(name string) (pass.Info, bool) {
	for _, i := range Table {
		if i.Name == name {
			return i, true
		}
	}
	return pass.Info{}, false
}
