package rebatch

import "mqatc/passes/pass"

// Info is the pass's row in the table.
var Info = pass.Info{
	Name:  "rebatch",
	Doc:   "A batch of 1 baked into constants becomes free, proven by running batches of 2 and 3 against single runs; else the reason is noted.",
	After: []pass.Order{{Pass: "clean", Why: "constants must be initializers to be rewritten"}},
	Exact: true,
}
