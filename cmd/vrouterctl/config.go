package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/fatih/color"
	"github.com/pmezard/go-difflib/difflib"
	"github.com/spf13/cobra"

	"vrouter/mgmt/codec"
)

var datastores = []string{"running", "candidate", "startup"}

func isDatastore(s string) bool {
	for _, d := range datastores {
		if s == d {
			return true
		}
	}
	return false
}

// readFile reads a file, or standard input for "-".
func readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(name)
}

// content strips an XML declaration and one <config> or <data> element around
// the nodes, so that what "show config" printed can be edited and sent back.
func content(b []byte) string {
	s := strings.TrimSpace(string(b))
	if strings.HasPrefix(s, "<?xml") {
		if i := strings.Index(s, "?>"); i >= 0 {
			s = strings.TrimSpace(s[i+2:])
		}
	}
	return s
}

func editCommand(f *flags) *cobra.Command {
	var operation, target string
	var commit bool
	c := &cobra.Command{
		Use:   "edit FILE",
		Short: "send the XML in a file (- for standard input) to the candidate",
		Long: `Send the XML in a file to the candidate configuration. The file holds one or
more top-level nodes (<interfaces xmlns="...">), or a <config> element around
them; nc:operation attributes delete, create, replace or remove single nodes.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := readFile(args[0])
			if err != nil {
				return err
			}
			text := content(b)
			if !strings.HasPrefix(text, "<config") {
				text = "<config>" + text + "</config>"
			}
			return f.with(func(c *client) error {
				body := fmt.Sprintf("<edit-config><target><%s/></target><default-operation>%s</default-operation>%s</edit-config>", target, operation, text)
				if _, err := c.call(body); err != nil {
					return err
				}
				if !commit {
					return nil
				}
				_, err := c.call("<commit/>")
				return err
			})
		},
	}
	c.Flags().StringVarP(&operation, "operation", "o", "merge", "what happens to nodes without an operation of their own: merge, replace or none")
	c.Flags().StringVarP(&target, "target", "t", "candidate", "datastore: candidate or running")
	c.Flags().BoolVarP(&commit, "commit", "c", false, "commit afterwards")
	return c
}

// config gets a datastore, indented.
func (c *client) config(ds string) (string, error) {
	if !isDatastore(ds) {
		return "", fmt.Errorf("there is no datastore %q: choose one of %s", ds, strings.Join(datastores, ", "))
	}
	tree, err := c.tree("<get-config><source><" + ds + "/></source></get-config>")
	if err != nil {
		return "", err
	}
	return string(codec.Writer{Indent: "  "}.Append(nil, tree)), nil
}

func diffCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:       "diff [FROM [TO]]",
		Short:     "what a commit would change: running against candidate, or any two datastores",
		Args:      cobra.MaximumNArgs(2),
		ValidArgs: datastores,
		RunE: func(_ *cobra.Command, args []string) error {
			from, to := "running", "candidate"
			if len(args) > 0 {
				from = args[0]
			}
			if len(args) > 1 {
				to = args[1]
			}
			return f.with(func(c *client) error {
				a, err := c.config(from)
				if err != nil {
					return err
				}
				b, err := c.config(to)
				if err != nil {
					return err
				}
				d, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: difflib.SplitLines(a), B: difflib.SplitLines(b), FromFile: from, ToFile: to, Context: 4})
				if err != nil {
					return err
				}
				for _, line := range strings.SplitAfter(d, "\n") {
					switch {
					case strings.HasPrefix(line, "+"):
						line = color.GreenString("%s", line)
					case strings.HasPrefix(line, "-"):
						line = color.RedString("%s", line)
					}
					fmt.Print(line)
				}
				return nil
			})
		},
	}
}

func validateCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use: "validate [DATASTORE]", Short: "check the candidate without committing it", Args: cobra.MaximumNArgs(1), ValidArgs: datastores,
		RunE: func(_ *cobra.Command, args []string) error {
			ds := "candidate"
			if len(args) > 0 {
				ds = args[0]
			}
			if !isDatastore(ds) {
				return fmt.Errorf("there is no datastore %q", ds)
			}
			return f.with(func(c *client) error {
				_, err := c.call("<validate><source><" + ds + "/></source></validate>")
				return err
			})
		},
	}
}

func commitCommand(f *flags) *cobra.Command {
	var persist string
	c := &cobra.Command{
		Use:   "commit",
		Short: "make the candidate the running configuration",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			body := "<commit/>"
			if persist != "" {
				body = "<commit><persist-id>" + string(codec.AppendText(nil, persist)) + "</persist-id></commit>"
			}
			return f.with(func(c *client) error { _, err := c.call(body); return err })
		},
	}
	c.Flags().StringVar(&persist, "persist-id", "", "confirm the commit that was begun under this name")

	var timeout time.Duration
	var name string
	confirmed := &cobra.Command{
		Use:   "confirmed",
		Short: "commit, and go back by itself unless confirmed in time",
		Long: `Commit, and go back by itself unless "vrouterctl commit --persist-id NAME"
follows within the time: a change that cuts you off undoes itself. "vrouterctl
rollback --persist-id NAME" goes back at once.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s := int(timeout / time.Second)
			if s < 1 {
				return errors.New("--within must be a second or more")
			}
			return f.with(func(c *client) error {
				// Persistent: this session ends with the command, which would
				// revert the commit at once.
				_, err := c.call(fmt.Sprintf("<commit><confirmed/><confirm-timeout>%d</confirm-timeout><persist>%s</persist></commit>", s, codec.AppendText(nil, name)))
				if err == nil {
					fmt.Printf("committed; goes back in %v unless confirmed: vrouterctl commit --persist-id %s\n", timeout, name)
				}
				return err
			})
		},
	}
	confirmed.Flags().DurationVar(&timeout, "within", 10*time.Minute, "how long to wait for the confirmation")
	confirmed.Flags().StringVar(&name, "persist-id", "vrouterctl", "name under which to confirm")
	c.AddCommand(confirmed)
	return c
}

func discardCommand(f *flags) *cobra.Command {
	return &cobra.Command{Use: "discard", Short: "make the candidate what is running", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return f.with(func(c *client) error { _, err := c.call("<discard-changes/>"); return err })
		}}
}

func rollbackCommand(f *flags) *cobra.Command {
	var name string
	var only bool
	var seq uint64
	c := &cobra.Command{Use: "rollback [N]", Short: "go back: take back an unconfirmed commit, or return to N versions ago",
		Long: `Without N, take back the confirmed commit that waits for its confirmation.

With N (or --sequence), load the version of running from N commits ago into the
candidate and commit it. "show commits" lists what there is; --candidate only
loads, so that "diff" can show what would change.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			version := ""
			if len(args) == 1 {
				n, err := strconv.ParseUint(args[0], 10, 32)
				if err != nil || n == 0 {
					return fmt.Errorf("%q is no number of versions to go back", args[0])
				}
				version = fmt.Sprintf("<back>%d</back>", n)
			} else if seq > 0 {
				version = fmt.Sprintf("<sequence>%d</sequence>", seq)
			}
			return f.with(func(c *client) error {
				if version == "" {
					_, err := c.call("<cancel-commit><persist-id>" + string(codec.AppendText(nil, name)) + "</persist-id></cancel-commit>")
					return err
				}
				if _, err := c.call(`<rollback xmlns="urn:vrouter:yang:vrouter-commit">` + version + "</rollback>"); err != nil || only {
					return err
				}
				_, err := c.call("<commit/>")
				return err
			})
		}}
	c.Flags().StringVar(&name, "persist-id", "vrouterctl", "name of the confirmed commit")
	c.Flags().BoolVar(&only, "candidate", false, "load into the candidate without committing")
	c.Flags().Uint64Var(&seq, "sequence", 0, "the version by its number")
	return c
}

func copyCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use: "copy FROM TO", Short: "copy a datastore to another (running startup: keep it for the next boot)", Args: cobra.ExactArgs(2), ValidArgs: datastores,
		RunE: func(_ *cobra.Command, args []string) error {
			if !isDatastore(args[0]) || !isDatastore(args[1]) {
				return fmt.Errorf("choose two of %s", strings.Join(datastores, ", "))
			}
			return f.with(func(c *client) error {
				_, err := c.call(fmt.Sprintf("<copy-config><target><%s/></target><source><%s/></source></copy-config>", args[1], args[0]))
				return err
			})
		},
	}
}

func rpcCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use: "rpc FILE", Short: "send the operation in a file (- for standard input) and print the reply", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := readFile(args[0])
			if err != nil {
				return err
			}
			return f.with(func(c *client) error {
				reply, err := c.call(content(bytes.TrimSpace(b)))
				if err != nil {
					return err
				}
				fmt.Println(reply)
				return nil
			})
		},
	}
}
