// Package ebpf drives the kernel: it loads the programs of package bpf, pins
// them, attaches them to devices, and makes the maps equal to a table.Set.
//
// Every table row has two slots. The programs read the slot that the
// generation in weft_config selects, once per packet. Apply writes the slots
// that nobody reads, then the generation, then the other slots, so that a
// packet meets either the old Set or the new one and an Apply that breaks off
// leaves the old one in force. It returns when the generation is written; the
// other slots wait for packets that began before, in the background:
//
//	rows     [old|old] ──write──► [old|new] ──generation──► [old|new] ──tidy──► [new|new]
//	reads      ▲                    ▲                             ▲                 ▲
//
// A trie row that one of the two Sets lacks would hide the shorter prefix
// beneath it; its slot therefore holds a copy of that shorter match.
//
// Only rows that differ are written, and none are kept: bpf.Encoder makes those
// of the last Set again from its objects. A Driver that did not apply last reads
// all rows of the kernel once and compares.
package ebpf
