package ebpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"reflect"
	"unsafe"

	"github.com/cilium/ebpf"
)

// batchRows is how many rows one system call reads or writes.
const batchRows = 2048

// array is room for rows of one size, as the kernel takes them.
type array struct {
	slice reflect.Value // of [size]byte
	bytes []byte        // the same memory
	size  int
}

func newArray(size uint32, n int) array {
	s := reflect.MakeSlice(reflect.SliceOf(reflect.ArrayOf(int(size), reflect.TypeFor[byte]())), n, n)
	return array{s, unsafe.Slice((*byte)(s.UnsafePointer()), n*int(size)), int(size)}
}

func (a array) at(i int) []byte { return a.bytes[i*a.size:][:a.size] }

// part returns rows from to to for a system call.
func (a array) part(from, to int) any { return a.slice.Slice(from, to).Interface() }

// scan calls fn for every row of a map; what it gets is valid until it returns.
func scan(m *ebpf.Map, fn func(key, value []byte)) error {
	keys, values := newArray(m.KeySize(), batchRows), newArray(m.ValueSize(), batchRows)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys.part(0, batchRows), values.part(0, batchRows), nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		for i := range n {
			fn(keys.at(i), values.at(i))
		}
		if err != nil {
			return nil
		}
	}
}

// writer writes rows of one map, many at once.
type writer struct {
	m              *ebpf.Map
	trie           bool // m is one
	keys, values   array
	puts           int   // rows of keys and values that wait
	gone           array // keys
	deletes        int   // of gone that wait
	shorter, found []byte
	err            error // the first; nothing is written after it
}

func newWriter(m *ebpf.Map, rows int) *writer {
	rows = min(rows, batchRows)
	return &writer{
		m: m, trie: m.Type() == ebpf.LPMTrie,
		keys: newArray(m.KeySize(), rows), values: newArray(m.ValueSize(), rows), gone: newArray(m.KeySize(), rows),
		shorter: make([]byte, m.KeySize()), found: make([]byte, m.ValueSize()),
	}
}

// put writes a row with what its two slots hold; nil: a copy of what the
// map shows in that slot without the row, which is nothing if it is alone.
func (w *writer) put(key []byte, slots [2][]byte, alone bool) {
	row := w.values.at(w.puts)
	for i, v := range slots {
		if slot := row[i*len(row)/2:][:len(row)/2]; v != nil {
			copy(slot, v)
		} else if clear(slot); w.trie && !alone {
			w.cover(slot, key, i)
		}
	}
	copy(w.keys.at(w.puts), key)
	if w.puts++; w.puts == w.keys.slice.Len() {
		w.flush()
	}
}

// delete removes a row if it is there.
func (w *writer) delete(key []byte) {
	copy(w.gone.at(w.deletes), key)
	if w.deletes++; w.deletes == w.gone.slice.Len() {
		w.flush()
	}
}

// flush writes what waits.
func (w *writer) flush() {
	if w.err == nil && w.puts > 0 {
		_, w.err = w.m.BatchUpdate(w.keys.part(0, w.puts), w.values.part(0, w.puts), nil)
	}
	for at := 0; w.err == nil && at < w.deletes; {
		n, err := w.m.BatchDelete(w.gone.part(at, w.deletes), nil)
		at += n
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			at++
		} else if err != nil {
			w.err = err
		}
	}
	w.puts, w.deletes = 0, 0
}

// cover writes to out, which is zero, what a look-up of key finds in a slot of
// other rows of a trie: the longest shorter prefix, marked as a copy.
func (w *writer) cover(out, key []byte, slot int) {
	if prefixLen(key) == 0 {
		return
	}
	copy(w.shorter, key)
	shorten(w.shorter, prefixLen(key)-1)
	if err := w.m.Lookup(w.shorter, w.found); err != nil {
		if !errors.Is(err, ebpf.ErrKeyNotExist) && w.err == nil {
			w.err = err
		}
		return
	}
	copy(out, w.found[slot*len(out):])
	if isRow(out) {
		binary.NativeEndian.PutUint32(out, cover)
	}
}

// prefixLen returns the length of a trie's key in bits.
func prefixLen(key []byte) int { return int(binary.NativeEndian.Uint32(key)) }

// shorten makes key a prefix of n bits; it had n+1.
func shorten(key []byte, n int) {
	binary.NativeEndian.PutUint32(key, uint32(n))
	key[4+n/8] &^= bits.Reverse8(1 << (n % 8))
}

// isRow reports whether a slot holds a row, not a copy of another or nothing.
func isRow(slot []byte) bool { return binary.NativeEndian.Uint32(slot) == present }

// tooFull names the map that took no more, if that is what happened.
func tooFull(m *ebpf.Map, name string, err error) error {
	return fmt.Errorf("%s: %w (at most %d rows)", name, err, m.MaxEntries())
}
