// Checks the files of a kachery subfeed with golang.org/x/mod/sumdb/note and tlog, unmodified.
//
//	go_verifier FOLDER VERIFIER_KEY [EARLIER_CHECKPOINT...]
//
// FOLDER has the files of the subfeed: checkpoint and tile/. The key is NAME+NUMBER+KEY. It checks the
// signature and the origin, every entry against the root, every tile through tlog.TileHashReader, and
// that each earlier checkpoint is of a tree that this one begins with.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

func main() {
	if len(os.Args) < 3 {
		fail("usage: go_verifier FOLDER VERIFIER_KEY [EARLIER_CHECKPOINT...]")
	}
	folder, key := os.Args[1], os.Args[2]
	verifier, err := note.NewVerifier(key)
	check(err)
	tree := open(filepath.Join(folder, "checkpoint"), verifier)
	reader := tlog.TileHashReader(tree, &tiles{folder})
	entries := readEntries(folder, tree.N)
	checkEntries(entries, tree, reader)
	for _, path := range os.Args[3:] {
		checkConsistency(path, verifier, tree, entries, reader)
	}
	fmt.Printf("ok %d entries, %d earlier checkpoints\n", tree.N, len(os.Args)-3)
}

// open reads a checkpoint: a note that the key signed, whose first line is the name of the key.
func open(path string, verifier note.Verifier) tlog.Tree {
	data, err := os.ReadFile(path)
	check(err)
	signed, err := note.Open(data, note.VerifierList(verifier))
	check(err)
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		fail("wrong origin: %q", lines[0])
	}
	n, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	check(err)
	var tree tlog.Tree
	tree.N = n
	if copy(tree.Hash[:], root) != tlog.HashSize {
		fail("the root is too short")
	}
	return tree
}

// checkEntries compares the root of all entries, and each of them, with the tree and its tiles.
func checkEntries(entries [][]byte, tree tlog.Tree, reader tlog.HashReader) {
	stored := storage{}
	for i, entry := range entries {
		hashes, err := tlog.StoredHashes(int64(i), entry, &stored)
		check(err)
		stored = append(stored, hashes...)
	}
	root, err := tlog.TreeHash(tree.N, &stored)
	check(err)
	if root != tree.Hash {
		fail("the entries are not those of the checkpoint")
	}
	step := len(entries)/1000 + 1 // each proof reads and checks whole tiles, so this reaches all of them
	for i := 0; i < len(entries); i += step {
		proof, err := tlog.ProveRecord(tree.N, int64(i), reader)
		check(err)
		check(tlog.CheckRecord(proof, tree.N, tree.Hash, int64(i), tlog.RecordHash(entries[i])))
	}
}

func checkConsistency(path string, verifier note.Verifier, tree tlog.Tree, entries [][]byte, reader tlog.HashReader) {
	old := open(path, verifier)
	if old.N > tree.N {
		fail("rollback: %s has %d entries, and the checkpoint %d", path, old.N, tree.N)
	}
	proof, err := tlog.ProveTree(tree.N, old.N, reader)
	check(err)
	if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
		fail("fork: %s is not a beginning of the checkpoint: %v", path, err)
	}
}

// readEntries reads the entry bundles of C2SP tlog-tiles.
func readEntries(folder string, n int64) [][]byte {
	var entries [][]byte
	for index := int64(0); index<<height < n; index++ {
		width := n - index<<height
		if width > 1<<height {
			width = 1 << height
		}
		data, err := os.ReadFile(filepath.Join(folder, path("entries", index, width)))
		check(err)
		for i := int64(0); i < width; i++ {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				fail("entry bundle %d is cut short", index)
			}
			size := 2 + int(binary.BigEndian.Uint16(data))
			entries = append(entries, data[2:size])
			data = data[size:]
		}
		if len(data) > 0 {
			fail("entry bundle %d has more than it should", index)
		}
	}
	return entries
}

// tiles is the tlog.TileReader of these files: tlog's own paths have the height in them.
type tiles struct{ folder string }

func (t *tiles) Height() int { return height }

func (t *tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		data, err := os.ReadFile(filepath.Join(t.folder, path(strconv.Itoa(tile.L), tile.N, int64(tile.W))))
		if err != nil {
			// As with full tiles in the place of partial ones.
			full, fullErr := os.ReadFile(filepath.Join(t.folder, path(strconv.Itoa(tile.L), tile.N, 1<<height)))
			if fullErr != nil {
				return nil, err
			}
			data = full[:tile.W*tlog.HashSize]
		}
		found = append(found, data)
	}
	return found, nil
}

func (t *tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func path(level string, n, width int64) string {
	name := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		name = fmt.Sprintf("x%03d/%s", n%1000, name)
	}
	name = "tile/" + level + "/" + name
	if width < 1<<height {
		name += fmt.Sprintf(".p/%d", width)
	}
	return name
}

// storage holds the hashes that tlog.StoredHashes gives.
type storage []tlog.Hash

func (s *storage) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for _, index := range indexes {
		found = append(found, (*s)[index])
	}
	return found, nil
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, given ...interface{}) {
	fmt.Fprintf(os.Stderr, "go_verifier: "+format+"\n", given...)
	os.Exit(1)
}
