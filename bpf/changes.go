package bpf

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"unsafe"
)

// Changes are the rows of one map that differ between two Sets. A row takes its
// key and two values, and 4 to 8 bytes to find it by its key.
type Changes struct {
	Map string // its name

	keySize, valueSize int
	n                  int
	compared           bool     // Was was called
	chunks             [][]byte // of chunkRows rows each: whether it is alone, key, old value, new value
	index              []uint32 // by hash of the key, then the next free place: row number + 1
}

// chunkRows is how many rows are allocated at once.
const chunkRows = 64

var seed = maphash.MakeSeed() // of the index

// Len returns how many rows differ.
func (c *Changes) Len() int { return c.n }

// Row returns the i-th row's key and what the map shall hold under it before
// and after; nil: no such row. Callers do not modify them.
func (c *Changes) Row(i int) (key, old, new []byte) {
	return c.key(i), existing(c.value(i, before)), existing(c.value(i, after))
}

// Alone reports whether it is known that nothing in the map covers the i-th row
// in the Set that lacks it: no key with a shorter prefix of this one.
func (c *Changes) Alone(i int) bool { return !c.compared && c.row(i)[0] != 0 }

// Was says that the map holds value under key, whatever the Set said that the
// changes begin from; Drop then forgets the rows that are as they shall be.
func (c *Changes) Was(key, value []byte) {
	c.compared = true
	copy(c.value(c.at(key, len(value)), before), value)
}

// Drop forgets rows that do not differ.
func (c *Changes) Drop() {
	kept := 0
	for i := range c.n {
		if bytes.Equal(c.value(i, before), c.value(i, after)) {
			continue
		}
		if kept != i {
			copy(c.row(kept), c.row(i))
		}
		kept++
	}
	if kept == c.n {
		return
	}
	c.n, c.index = kept, nil
	used := (kept + chunkRows - 1) / chunkRows
	clear(c.chunks[used:])
	c.chunks = c.chunks[:used]
}

// side is which of the two Sets a value belongs to.
type side int

const (
	before side = iota
	after
)

func (c *Changes) stride() int { return 1 + c.keySize + 2*c.valueSize }

func (c *Changes) row(i int) []byte {
	return c.chunks[i/chunkRows][i%chunkRows*c.stride():][:c.stride()]
}

func (c *Changes) key(i int) []byte { return c.row(i)[1:][:c.keySize] }

func (c *Changes) value(i int, s side) []byte {
	return c.row(i)[1+c.keySize+int(s)*c.valueSize:][:c.valueSize]
}

// existing returns a value, or nil if it is none: every value begins with a
// word that is 0 in none.
func existing(value []byte) []byte {
	if binary.NativeEndian.Uint32(value) == uint32(WeftPresenceABSENT) {
		return nil
	}
	return value
}

// at returns the number of the row with a key, which it enters if it is new.
func (c *Changes) at(key []byte, valueSize int) int {
	if c.keySize == 0 {
		c.keySize, c.valueSize = len(key), valueSize
	}
	if len(c.index) < 2*(c.n+1) {
		c.grow()
	}
	slot := c.slot(key)
	if i := c.index[slot]; i != 0 {
		return int(i) - 1
	}
	i := c.n
	if i/chunkRows == len(c.chunks) {
		c.chunks = append(c.chunks, make([]byte, chunkRows*c.stride()))
	}
	c.n++
	clear(c.row(i)) // Drop may have left something
	copy(c.key(i), key)
	c.index[slot] = uint32(i + 1)
	return i
}

// slot returns the place of the index that names the key's row, or is free.
func (c *Changes) slot(key []byte) int {
	mask := len(c.index) - 1
	at := int(maphash.Bytes(seed, key)) & mask
	for c.index[at] != 0 && !bytes.Equal(c.key(int(c.index[at])-1), key) {
		at = (at + 1) & mask
	}
	return at
}

// grow makes an index with room for at least as many rows again.
func (c *Changes) grow() {
	size := 32
	for size < 4*c.n {
		size *= 2
	}
	c.index = make([]uint32, size)
	for i := range c.n {
		c.index[c.slot(c.key(i))] = uint32(i + 1)
	}
}

// memory returns the bytes of a map key or value.
func memory[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}
