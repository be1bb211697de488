package ort

// pinnedFile is one file of a platform's library as it lies in a client's package.
type pinnedFile struct {
	in     string // path inside the package
	name   string // file name in the cache; the library's is what its soname says
	size   int64
	sha256 string
}

func platform(goos, goarch string) string { return goos + "-" + goarch }

// libraryName is the name under which the library lies in the cache.
func libraryName(goos string) string {
	switch goos {
	case "windows":
		return "onnxruntime.dll"
	case "darwin":
		return "libonnxruntime.1.dylib"
	}
	return "libonnxruntime.so.1"
}

// npmFiles are the files of package onnxruntime-node, version Version.
var npmFiles = map[string][]pinnedFile{
	"linux-amd64": {{"package/bin/napi-v6/linux/x64/libonnxruntime.so.1", "libonnxruntime.so.1", 45828512,
		"ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23"}},
	"linux-arm64": {{"package/bin/napi-v6/linux/arm64/libonnxruntime.so.1", "libonnxruntime.so.1", 25135496,
		"1f549d46250b005580b597f4164984aaf75b3bcb9f3aeb07c7f8a8fe60b23c76"}},
	"darwin-arm64": {{"package/bin/napi-v6/darwin/arm64/libonnxruntime.1.30.0.dylib", "libonnxruntime.1.dylib", 44589928,
		"685d2be5dba1309c89d3a5324b7fd06a5c42f1a61bfea32d14c4cc28d072121d"}},
	"windows-amd64": {{"package/bin/napi-v6/win32/x64/onnxruntime.dll", "onnxruntime.dll", 28754232,
		"508c362f5673483dd3a086379c392795b2e42d10d5e6f3f90ebd7ac21c97af67"}},
	"windows-arm64": {{"package/bin/napi-v6/win32/arm64/onnxruntime.dll", "onnxruntime.dll", 29815136,
		"6c3a2abf5c6aca11c48a0d338a91af309f2266f25ce2e4084e6a87bbcb0fbfd0"}},
}

// wheelTags are the tags of the one wheel that is taken on a platform, whatever the interpreter: on macOS and Windows the
// library's bytes differ between the wheels of Python versions.
var wheelTags = map[string]string{
	"linux-amd64":   "manylinux_2_28_x86_64",
	"linux-arm64":   "manylinux_2_28_aarch64",
	"darwin-arm64":  "macosx_14_0_arm64",
	"windows-amd64": "win_amd64",
	"windows-arm64": "win_arm64",
}

// wheelPython is the Python version of those wheels.
const wheelPython = "311"

// wheelPinned are the files of wheel onnxruntime, version Version, for Python wheelPython.
var wheelPinned = map[string][]pinnedFile{
	"linux-amd64": {
		{"onnxruntime/capi/libonnxruntime.so.1.30.0", "libonnxruntime.so.1", 28985152,
			"c902c70b3003c0e99fada202f37478c515ae9bba7944c2b2abd0017bae0c82ed"},
		{"onnxruntime/capi/libonnxruntime_providers_shared.so", "libonnxruntime_providers_shared.so", 14632,
			"086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d"},
	},
	"linux-arm64": {
		{"onnxruntime/capi/libonnxruntime.so.1.30.0", "libonnxruntime.so.1", 25135496,
			"8a218e1e446880131115c368ec7005969a5022af9a15a26173de648fef0b7789"},
		{"onnxruntime/capi/libonnxruntime_providers_shared.so", "libonnxruntime_providers_shared.so", 198792,
			"3b6be288fbfb7dff8770d08a23defdde18e8f7e0f5a2b344a0e5e238c999ea88"},
	},
	"darwin-arm64": {
		{"onnxruntime/capi/libonnxruntime.1.30.0.dylib", "libonnxruntime.1.dylib", 33209560,
			"8f54aa3989f2d4b2f9fbe8af298b1c147978ec899a8c28e20d0d35edc0005027"},
	},
	"windows-amd64": {
		{"onnxruntime/capi/onnxruntime.dll", "onnxruntime.dll", 18446136,
			"44741724166ad61c8c82885e394793807f2cf5707c83b9e33c2d78d75c6e7650"},
		{"onnxruntime/capi/onnxruntime_providers_shared.dll", "onnxruntime_providers_shared.dll", 21816,
			"fabb99add45aa1a0386c80bc63e92479c5f56e9e95ab98c85fb7ad21c4092ce0"},
	},
	"windows-arm64": {
		{"onnxruntime/capi/onnxruntime.dll", "onnxruntime.dll", 18351416,
			"ddeec3d8a99b9261fa4db558bba0f62d52a8577a7a2dc566bbf2b0d7ebfc90a0"},
		{"onnxruntime/capi/onnxruntime_providers_shared.dll", "onnxruntime_providers_shared.dll", 21304,
			"90f3d78da441b76a88ec4f33bbef1909783d190070d719f54ef9ce1e0f6e5bae"},
	},
}
