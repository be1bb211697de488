.PHONY: build test demo fmt generate

build:
	go build -o mqatc ./cli/mqatc

test:
	bash .ci/run

demo:
	go run ./cli/mqatc demo -o demo-out

fmt:
	gofmt -w $$(git ls-files '*.go')

generate:
	go generate ./...
