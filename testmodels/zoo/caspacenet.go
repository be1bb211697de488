package zoo

// buildCASpaceNet is the network of Shunli-Wang/CA-SpaceNet: WDR whose heads read the difference of two pyramids, which have the
// convolutions of P6 and P7 in common. Inputs and outputs as WDR's.
func buildCASpaceNet(n *net, h, w int) {
	taps := n.darknet53("backbone", n.input("image", 3, h, w))
	levels, sub := n.fpn("fpn", "fpn", taps), n.fpn("fpn_sub", "fpn", taps)
	for k := range levels {
		levels[k] = n.call("Sub", "", levels[k], sub[k])
	}
	n.poseHead("head", levels)
}
