// Package data holds what all kinds of data sets share.
package data

// heldOut is the spacing of held-out samples.
const heldOut = 10

// HoldOut divides n samples, in the order of their names, into those to train on and every tenth to measure on. Sets of fewer
// than ten give up their last sample; a single one serves both ends.
func HoldOut(n int) (train, held []int) {
	for i := range n {
		if i%heldOut == heldOut-1 || (n < heldOut && i == n-1) {
			held = append(held, i)
		} else {
			train = append(train, i)
		}
	}
	if len(train) == 0 {
		train = append(train, held...)
	}
	return train, held
}
