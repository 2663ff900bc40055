// Package wire is what weftd and its agents say to each other, as gRPC: see
// control.proto.
package wire

//go:generate sh -c "protoc --plugin=$(go tool -modfile=../../tools/go.mod -n protoc-gen-go) --plugin=$(go tool -modfile=../../tools/go.mod -n protoc-gen-go-grpc) --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative control.proto"
