package transport

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// hostKeys are the keys a server has: ed25519, and ECDSA for clients that do
// not know it.
var hostKeys = []struct {
	file string
	make func() (crypto.PrivateKey, error)
}{
	{"ssh_host_ed25519_key", func() (crypto.PrivateKey, error) {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return k, err
	}},
	{"ssh_host_ecdsa_key", func() (crypto.PrivateKey, error) {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}},
}

// HostKeys reads the SSH host keys from folder dir and makes those that are
// missing: in OpenSSH's format, mode 0600, each with its public half beside
// it. A key that is there but cannot be used is an error; it is never replaced,
// as clients would take the new one for an attack.
func HostKeys(dir string) ([]ssh.Signer, error) {
	var keys []ssh.Signer
	for _, h := range hostKeys {
		path := filepath.Join(dir, h.file)
		k, err := readKey(path)
		if errors.Is(err, fs.ErrNotExist) {
			if err = makeKey(path, h.make); err == nil {
				k, err = readKey(path)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("SSH host key: %w", err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func readKey(path string) (ssh.Signer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if m := fi.Mode().Perm(); m&0o077 != 0 {
		return nil, fmt.Errorf("%s: mode %04o lets others read it; use chmod 600, or remove it to have a new one made if it may have been read", path, m)
	}
	b := make([]byte, min(fi.Size(), 64<<10))
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, err
	}
	k, err := ssh.ParsePrivateKey(b)
	if err != nil { // the error itself is left out: it could show what stands there
		return nil, fmt.Errorf("%s: is not a private key without passphrase; put it back from a backup, or remove it to have a new one made (clients will then see a changed host key)", path)
	}
	return k, nil
}

// makeKey writes a new key so that after a crash there is either all of it or none.
func makeKey(path string, gen func() (crypto.PrivateKey, error)) error {
	key, err := gen()
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(key, "vrouter")
	if err != nil {
		return err
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return err
	}
	if err := writeFile(path+".pub", ssh.MarshalAuthorizedKey(s.PublicKey()), 0o644); err != nil {
		return err
	}
	return writeFile(path, pem.EncodeToMemory(block), 0o600)
}

func writeFile(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
