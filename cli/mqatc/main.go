// Command mqatc compresses pretrained ONNX networks by modular quantization-aware training.
package main

import (
	"os"

	"mqatc/cli"
)

func main() { os.Exit(cli.Main(os.Args, os.Stdout, os.Stderr)) }
