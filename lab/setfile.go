package lab

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"os"

	"github.com/weft-net/weft/table"
)

// SaveSet writes set to the file path, all or nothing. The file is for this
// binary's LoadSet; its form may change with any version.
func SaveSet(path string, set *table.Set) error {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(set); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return writeFile(path, b.Bytes())
}

// LoadSet reads what SaveSet wrote. All maps of the Set are made; empty lists
// are nil.
//
// Errors: fs.ErrNotExist if there is no such file.
func LoadSet(path string) (*table.Set, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	set := table.NewSet("")
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(set); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return set, nil
}
