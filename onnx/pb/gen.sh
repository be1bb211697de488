#!/bin/sh
# Regenerates onnx.pb.go; needs protoc 3.21.
set -eu
gogo=$(go list -m -f '{{.Dir}}' github.com/gogo/protobuf)
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/protoc-gen-gogofast" github.com/gogo/protobuf/protoc-gen-gogofast
protoc -I . -I "$gogo/gogoproto" -I "$gogo/protobuf" --plugin="$bin/protoc-gen-gogofast" \
  --gogofast_out=Mgogo.proto=github.com/gogo/protobuf/gogoproto,paths=source_relative:. onnx.proto
