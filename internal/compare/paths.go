package compare

// Why this file exists: the fields of three answers are compared by path, and most paths are the same. Each is stored
// once, as a number. An object with very many keys is a map, whose keys are data, and that is known only at its end.

import (
	"strings"

	"github.com/cespare/xxhash/v2"
)

const (
	// maxKeys is the most keys of an object that is no map.
	maxKeys = 64
	// maxPaths bounds the paths of one comparison.
	maxPaths = 4096
)

type pathID int32

// The paths that every comparison has.
const (
	rootPath pathID = iota
	otherPath
)

type path struct {
	parent   pathID
	key      string
	children int
	mapped   bool // an object that is used as a map
}

type pathKey struct {
	parent pathID
	key    string
}

// paths are the paths of one comparison. The zero value is empty; reset before use.
type paths struct {
	list  []path
	index map[pathKey]pathID
	// final is, by path, the path that it counts under once all maps are known, and hashes its hash.
	final  []pathID
	hashes []uint64
}

func (p *paths) reset() {
	if p.index == nil {
		p.index = map[pathKey]pathID{}
	}
	clear(p.index)
	clear(p.list)
	p.list = append(p.list[:0], path{}, path{key: others})
	p.final, p.hashes = p.final[:0], p.hashes[:0]
}

// child returns the path of a key below parent. Keys that are no names, or belong to a map, share one path.
func (p *paths) child(parent pathID, key string) pathID {
	if p.list[parent].mapped || !isName(key) {
		key = hole
	}
	return p.sub(parent, key)
}

// sub is like child for a key that is shown as it is.
func (p *paths) sub(parent pathID, key string) pathID {
	at := pathKey{parent, key}
	if id, found := p.index[at]; found {
		return id
	}
	if len(p.list) >= maxPaths {
		return otherPath
	}
	id := pathID(len(p.list)) //nolint:gosec // at most maxPaths
	p.list = append(p.list, path{parent: parent, key: key})
	p.index[at] = id
	if key != hole && parent != rootPath {
		p.list[parent].children++
		p.list[parent].mapped = p.list[parent].children > maxKeys
	}
	return id
}

// finish computes the final paths and their hashes.
func (p *paths) finish() {
	for id := 0; id < len(p.list); id++ { // grows: a map may get its path here
		x := p.list[id]
		switch {
		case pathID(id) <= otherPath:
			p.final = append(p.final, pathID(id))
		default:
			parent, key := p.final[x.parent], x.key
			if (p.list[x.parent].mapped || p.list[parent].mapped) && key != elements && !strings.HasPrefix(key, ":") {
				key = hole
			}
			p.final = append(p.final, p.finalSub(parent, key, pathID(id)))
		}
		p.hashes = append(p.hashes, mix(p.hashAt(x.parent, id), xxhash.Sum64String(x.key)))
	}
}

func (p *paths) hashAt(parent pathID, id int) uint64 {
	if id <= int(otherPath) {
		return 0
	}
	return p.hashes[parent]
}

// finalSub returns the path of a key below a final path: self, if it is there already.
func (p *paths) finalSub(parent pathID, key string, self pathID) pathID {
	if x := p.list[self]; x.parent == parent && x.key == key {
		return self
	}
	at := pathKey{parent, key}
	if id, found := p.index[at]; found {
		return id
	}
	id := pathID(len(p.list)) //nolint:gosec // at most 2 maxPaths: each path makes at most one
	p.list = append(p.list, path{parent: parent, key: key})
	p.index[at] = id
	return id
}

// name returns the text of a path, such as body.items[].price.
func (p *paths) name(id pathID) string {
	if id == rootPath {
		return ""
	}
	x := p.list[id]
	above := p.name(x.parent)
	if above == "" || x.key == elements || strings.HasPrefix(x.key, ":") {
		return above + x.key
	}
	return above + "." + x.key
}

// Keys of paths that are no keys of an object.
const (
	elements     = "[]"
	orderKind    = ":order"
	elementsKind = ":elements"
	lengthKind   = ":length"
)
