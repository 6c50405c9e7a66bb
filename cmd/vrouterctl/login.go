package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/term"
)

// logins are the ways to log in, in the order in which they are tried: keys,
// password. A person who is asked may take their time.
func (a *app) logins(user, addr string, limit *patience) ([]ssh.AuthMethod, error) {
	ask := a.ask
	if ask != nil {
		ask = func(prompt string) (string, error) {
			limit.end()
			defer limit.begin()
			return a.ask(prompt)
		}
	}
	keys, err := a.keys(ask)
	if err != nil {
		return nil, err
	}
	var ways []ssh.AuthMethod
	if len(keys) > 0 {
		ways = append(ways, ssh.PublicKeys(keys...))
	}
	// Never on the command line, where every process list shows it.
	if p, ok := os.LookupEnv("VROUTER_PASSWORD"); ok {
		ways = append(ways, ssh.Password(p))
	} else if ask != nil {
		ways = append(ways, ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) {
			return ask(fmt.Sprintf("password of %s at %s: ", user, addr))
		}), 3))
	}
	return ways, nil
}

// keys are those of --key, else of the agent and of ~/.ssh.
func (a *app) keys(ask func(string) (string, error)) (keys []ssh.Signer, err error) {
	if a.key != "" {
		k, err := readKey(a.key, ask)
		if err != nil {
			return nil, err
		}
		return []ssh.Signer{k}, nil
	}
	if sock := os.Getenv("SSH_AUTH_SOCK"); sock != "" {
		if c, err := net.Dial("unix", sock); err == nil { // stays open: the agent signs
			if k, err := agent.NewClient(c).Signers(); err == nil {
				keys = append(keys, k...)
			}
		}
	}
	home, _ := os.UserHomeDir()
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		k, err := readKey(filepath.Join(home, ".ssh", name), ask)
		if err == nil && !holds(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func holds(keys []ssh.Signer, k ssh.Signer) bool {
	for _, x := range keys {
		if bytes.Equal(x.PublicKey().Marshal(), k.PublicKey().Marshal()) {
			return true
		}
	}
	return false
}

// readKey reads a private key file. Its passphrase is asked for only when the
// server wants this key.
func readKey(name string, ask func(string) (string, error)) (ssh.Signer, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	k, err := ssh.ParsePrivateKey(b)
	var closed *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &closed) && ask == nil:
		return nil, fmt.Errorf("%s has a passphrase, and there is no terminal to ask for it; the SSH agent can hold the key", name)
	case errors.As(err, &closed) && closed.PublicKey == nil:
		return nil, fmt.Errorf("%s: a key with a passphrase must be in OpenSSH's own format (ssh-keygen -p changes it)", name)
	case errors.As(err, &closed):
		return &lockedKey{name: name, text: b, pub: closed.PublicKey, ask: ask}, nil
	case err != nil: // the error itself could show what stands there
		return nil, fmt.Errorf("%s is no private key", name)
	}
	return k, nil
}

// A lockedKey is opened at its first use.
type lockedKey struct {
	name string
	text []byte
	pub  ssh.PublicKey
	ask  func(string) (string, error)
	key  ssh.AlgorithmSigner
}

func (k *lockedKey) PublicKey() ssh.PublicKey { return k.pub }

func (k *lockedKey) Sign(r io.Reader, data []byte) (*ssh.Signature, error) {
	return k.SignWithAlgorithm(r, data, "")
}

func (k *lockedKey) SignWithAlgorithm(r io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	if err := k.open(); err != nil {
		return nil, err
	}
	return k.key.SignWithAlgorithm(r, data, algorithm)
}

// open asks for the passphrase, as often as OpenSSH does.
func (k *lockedKey) open() error {
	if k.key != nil {
		return nil
	}
	prompt := "passphrase of " + k.name + ": "
	for range 3 {
		pass, err := k.ask(prompt)
		if err != nil {
			return err
		}
		s, err := ssh.ParsePrivateKeyWithPassphrase(k.text, []byte(pass))
		if err != nil {
			prompt = "that is not the passphrase of " + k.name + "; once more: "
			continue
		}
		var ok bool
		if k.key, ok = s.(ssh.AlgorithmSigner); !ok {
			return fmt.Errorf("%s: keys of type %s are not supported", k.name, k.pub.Type())
		}
		return nil
	}
	return fmt.Errorf("%s: the passphrase is wrong", k.name)
}

// terminal gives what asks the person at the terminal for a secret; nil when
// nobody is there. Standard input is not used: it may be a file to send.
func terminal() func(prompt string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	tty.Close()
	return func(prompt string) (string, error) {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		defer tty.Close()
		return askOn(tty, prompt)
	}
}

// askOn reads a line without showing it. A signal that ends the program gives
// the terminal its echo back first.
func askOn(tty *os.File, prompt string) (string, error) {
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	end := make(chan os.Signal, 1)
	over := make(chan struct{})
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(end)
	defer close(over)
	go func() {
		select {
		case s := <-end:
			_ = term.Restore(fd, before)
			signal.Stop(end)
			_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
		case <-over:
		}
	}()
	if _, err := fmt.Fprint(tty, prompt); err != nil {
		return "", err
	}
	b, err := term.ReadPassword(fd)
	fmt.Fprintln(tty)
	return string(b), err
}
