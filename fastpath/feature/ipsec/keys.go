package ipsec

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/mem"
)

// keyring keeps the keys of SAs for as long as their records live, so that an SA can
// be given to another engine when its own is lost: within milliseconds, and while
// no management plane is there that could tell the keys again. The memory stays
// out of core files and of child processes, is wiped when a record goes, and is
// locked against swapping page by page as far as RLIMIT_MEMLOCK allows.
//
// The control side alone uses it.
type keyring struct {
	tab    mem.Table[keyPair] // by record handle
	locked map[uintptr]bool   // pages
	told   bool               // that locking is refused
	warn   func(error)
}

// keyPair is what an SA has of secrets: 128 bytes.
type keyPair struct {
	n, m uint8 // lengths
	b    [126]byte
}

func newKeyring(n int, warn func(error)) (k keyring, err error) {
	k.locked, k.warn = map[uintptr]bool{}, warn
	k.tab, err = mem.NewTable[keyPair](n, mem.Options{Secret: true, SmallPages: true})
	return k, err
}

// put keeps the keys of the record with a handle.
func (k *keyring) put(h uint32, key, integrity []byte) {
	p := k.tab.At(h)
	k.lock(p)
	if len(key)+len(integrity) > len(p.b) {
		panic("ipsec: keys longer than any algorithm's") // checkAlgorithms knows the lengths
	}
	p.n, p.m = uint8(len(key)), uint8(len(integrity))
	copy(p.b[:], key)
	copy(p.b[len(key):], integrity)
}

// get gives the keys of a record. They are the keyring's memory.
func (k *keyring) get(h uint32) (key, integrity Secret) {
	p := k.tab.At(h)
	return p.b[:p.n:p.n], p.b[p.n:][:p.m:p.m]
}

// move gives the keys of one record to another.
func (k *keyring) move(to, from uint32) {
	k.lock(k.tab.At(to))
	*k.tab.At(to) = *k.tab.At(from)
	k.wipe(from)
}

func (k *keyring) wipe(h uint32) { *k.tab.At(h) = keyPair{} }

// lock locks the page that p is in. Where that is refused the keys are as well kept
// as the process's other memory is.
func (k *keyring) lock(p *keyPair) {
	page := uintptr(unix.Getpagesize())
	at := uintptr(unsafe.Pointer(p)) &^ (page - 1)
	if k.locked[at] {
		return
	}
	k.locked[at] = true
	if err := unix.Mlock(unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p))); err != nil && !k.told {
		k.told = true
		k.warn(err)
	}
}
