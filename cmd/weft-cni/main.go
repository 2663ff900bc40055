// Command weft-cni attaches pods to their ports, as a CNI plugin; see package
// cni.
package main

import (
	"os"
	"path/filepath"

	"github.com/weft-net/weft/cni"
)

func main() { os.Exit(cni.Main(filepath.Base(os.Args[0]), os.Stdout)) }
