.PHONY: build test demo fmt fuzz generate

build:
	go build -o mqatc ./cli/mqatc

test:
	bash .ci/run

demo:
	go run ./cli/mqatc demo -o demo-out

# Each fuzz target for FUZZTIME; a finding stays in testdata/fuzz of its package. Without a bound, shrinking inputs takes most of the time.
FUZZTIME ?= 30m
FUZZ = onnx/format:FuzzLoad onnx/text:FuzzParse onnx/op:FuzzInfer onnx/pb:FuzzCheck runtime/pack:FuzzRead runtime/data/npy:FuzzParse \
	runtime/data/bop:FuzzPLY runtime/data/bop:FuzzSceneJSON

fuzz:
	for t in $(FUZZ); do \
		go test ./$${t%%:*} -run '^$$' -fuzz "^$${t##*:}\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x || exit 1; \
	done

fmt:
	gofmt -w $$(git ls-files '*.go')

generate:
	go generate ./...
