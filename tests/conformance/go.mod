module github.com/skiff-containers/skiff/tests/conformance

go 1.26.8

require github.com/opencontainers/runtime-tools v0.9.1-0.20260316125833-8a4db579f5c8

require (
	github.com/mndrix/tap-go v0.0.0-20171203230836-629fa407e90b // indirect
	github.com/mrunalp/fileutils v0.5.0 // indirect
	gopkg.in/yaml.v2 v2.4.0 // indirect
)
