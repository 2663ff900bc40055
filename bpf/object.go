package bpf

// Object returns the compiled programs, which name the data plane's version.
func Object() []byte { return _WeftBytes }
