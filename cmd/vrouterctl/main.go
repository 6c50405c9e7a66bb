// Command vrouterctl is the operator's view of a vRouter: a NETCONF client
// that shows state as tables and handles the candidate configuration.
//
// It talks to the local vrouterd over its unix socket, or to any vRouter over
// SSH with --host.
//
// Where things stand: client.go is a session, wire.go its bytes, ssh.go and
// login.go the way in; show.go and view_*.go what is shown; edit.go, diff.go,
// commit.go what is changed; events.go what happens; complete.go what the shell asks.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/fatih/color"
	"github.com/spf13/cobra"
)

func main() {
	a := newApp(os.Stdin, os.Stdout, os.Stderr)
	a.ask = terminal()
	os.Exit(a.run(os.Args[1:]))
}

// An app is one run of the command.
type app struct {
	host, user, key, knownHosts string
	socket                      string
	acceptNew                   bool
	timeout                     time.Duration
	json, noColor               bool

	in  io.Reader
	out *screen
	err *screen
	// ask reads a secret from the person at the terminal; nil when there is none.
	ask func(prompt string) (string, error)
	// until ends what goes on until Ctrl-C; nil: that alone does.
	until context.Context
}

func newApp(in io.Reader, out, err io.Writer) *app {
	return &app{in: in, out: newScreen(out), err: newScreen(err)}
}

// run carries out a command line and gives the exit code.
func (a *app) run(args []string) int {
	root := a.command()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.Execute()
	if e := a.out.Flush(); e != nil && err == nil { // a disk that is full must not look like success
		err = fmt.Errorf("the output could not be written: %w", e)
	}
	a.report(err)
	_ = a.err.Flush()
	return exitCode(err)
}

// report tells the user what went wrong.
func (a *app) report(err error) {
	if err == nil || errors.Is(err, errDiffers) {
		return
	}
	fmt.Fprintf(a.err, "%s %s\n", a.err.paint(color.FgRed, "error:"), printable(err.Error()))
}

// DefaultSocket is where vrouterd listens for local clients.
const DefaultSocket = "/run/vrouter/netconf.sock"

const defaultTimeout = 30 * time.Second

const about = `Show and configure a vRouter over NETCONF.

Without --host, the vRouter of this machine is asked over its unix socket: as
root, or as a user who stands in its users file. With --host it is SSH, port
830: the key of --key, else those of the SSH agent and of ~/.ssh, else a
password, from the terminal or the environment variable VROUTER_PASSWORD.

Exit codes:
  0  done; for diff: nothing differs
  1  diff: something differs
  2  the command line or a file that it names is wrong
  3  the vRouter cannot be reached, or the session broke
  4  the vRouter refused, or does not have what was asked for`

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:          "vrouterctl",
		Short:        "show and configure a vRouter over NETCONF",
		Long:         about,
		SilenceUsage: true, SilenceErrors: true,
		Version: version(),
		PersistentPreRun: func(*cobra.Command, []string) {
			if a.noColor {
				a.out.colour, a.err.colour = false, false
			}
		},
	}
	me := "admin"
	if u, err := user.Current(); err == nil {
		me = u.Username
	}
	home, _ := os.UserHomeDir()
	p := root.PersistentFlags()
	p.StringVarP(&a.host, "host", "H", "", "vRouter to reach over SSH: [user@]host[:port]")
	p.StringVarP(&a.user, "user", "u", me, "user name for SSH")
	p.StringVarP(&a.key, "key", "i", "", "private key file for SSH")
	p.StringVar(&a.knownHosts, "known-hosts", filepath.Join(home, ".ssh/known_hosts"), "file of known host keys")
	p.BoolVar(&a.acceptNew, "accept-new", false, "add the key of a host that is not known yet")
	p.StringVarP(&a.socket, "socket", "S", or(os.Getenv("VROUTER_SOCKET"), DefaultSocket), "unix socket of a vrouterd on this machine, also by VROUTER_SOCKET")
	p.DurationVar(&a.timeout, "timeout", defaultTimeout, "how long the vRouter may be silent before it is given up; 0 is for ever")
	p.BoolVar(&a.noColor, "no-color", false, "no colour, on a terminal either")
	root.MarkFlagsMutuallyExclusive("host", "socket")
	_ = root.MarkPersistentFlagFilename("socket")
	for _, f := range []string{"host", "user", "timeout"} {
		_ = root.RegisterFlagCompletionFunc(f, cobra.NoFileCompletions)
	}

	root.AddCommand(a.showCommand(), a.editCommand(), a.diffCommand(), a.validateCommand(), a.commitCommand(), a.discardCommand(),
		a.rollbackCommand(), a.copyCommand(), a.salCommand(), a.rpcCommand(), a.eventsCommand())
	return root
}

// with opens a session around a command.
func (a *app) with(do func(*client) error) error {
	c, err := a.dial()
	if err != nil {
		return err
	}
	defer c.close()
	return do(c)
}

func version() string {
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "development"
}

// or gives the first text that is there.
func or(s ...string) string {
	for _, x := range s {
		if x != "" {
			return x
		}
	}
	return ""
}

// datastores are those that exist, as they are named on the command line.
var datastores = []string{"running", "candidate", "startup"}

// checkDatastore refuses a name that is none of them.
func checkDatastore(names ...string) error {
	for _, n := range names {
		if !slices.Contains(datastores, n) {
			return fmt.Errorf("there is no datastore %q; there are %s", n, strings.Join(datastores, ", "))
		}
	}
	return nil
}
