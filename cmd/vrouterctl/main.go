// Command vrouterctl is the operator's view of a vRouter: a NETCONF client
// that shows state as tables and handles the candidate configuration.
//
// It talks to the local vrouterd over its unix socket, or to any vRouter over
// SSH with --host.
package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/fatih/color"
	"github.com/spf13/cobra"
)

type flags struct {
	host, user, key, knownHosts string
	socket                      string
	acceptNew                   bool
	timeout                     time.Duration
	json, noColor               bool
}

func main() {
	f := &flags{}
	root := command(f)
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, color.RedString("error:"), err)
		os.Exit(1)
	}
}

// DefaultSocket is where vrouterd listens for local clients.
const DefaultSocket = "/run/vrouter/netconf.sock"

func command(f *flags) *cobra.Command {
	root := &cobra.Command{
		Use:   "vrouterctl",
		Short: "show and configure a vRouter over NETCONF",
		Long: `Show and configure a vRouter over NETCONF.

Without --host, the vRouter of this machine is asked over its unix socket
(root, or a member of its group). With --host it is SSH, port 830: the key of
--key, else those of the SSH agent and ~/.ssh, else a password (from the
terminal or the environment variable VROUTER_PASSWORD).`,
		SilenceUsage: true, SilenceErrors: true,
		Version: version(),
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if f.noColor {
				color.NoColor = true
			}
			if f.host != "" {
				f.socket = ""
			} else if f.socket == "" {
				f.socket = DefaultSocket
			}
			return nil
		},
	}
	me := "admin"
	if u, err := user.Current(); err == nil {
		me = u.Username
	}
	home, _ := os.UserHomeDir()
	p := root.PersistentFlags()
	p.StringVarP(&f.host, "host", "H", "", "vRouter to reach over SSH: host, or host:port")
	p.StringVarP(&f.user, "user", "u", me, "user name for SSH")
	p.StringVarP(&f.key, "key", "i", "", "private key file for SSH")
	p.StringVar(&f.knownHosts, "known-hosts", filepath.Join(home, ".ssh/known_hosts"), "file of known host keys")
	p.BoolVar(&f.acceptNew, "accept-new", false, "add the key of a host that is not known yet")
	p.StringVarP(&f.socket, "socket", "S", os.Getenv("VROUTER_SOCKET"), "unix socket of a local vrouterd (default "+DefaultSocket+")")
	p.DurationVar(&f.timeout, "timeout", defaultTimeout, "limit for connecting")
	p.BoolVar(&f.json, "json", false, "print JSON (RFC 7951) instead of tables")
	p.BoolVar(&f.noColor, "no-color", false, "no colour, on a terminal either")

	root.AddCommand(showCommand(f), editCommand(f), diffCommand(f), validateCommand(f), commitCommand(f), discardCommand(f),
		rollbackCommand(f), copyCommand(f), rpcCommand(f))
	return root
}

// with opens a session around a command.
func (f *flags) with(do func(*client) error) error {
	c, err := dial(f)
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
