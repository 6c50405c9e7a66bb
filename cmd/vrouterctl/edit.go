package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

func (a *app) editCommand() *cobra.Command {
	var operation, target string
	var commit bool
	c := &cobra.Command{
		Use:   "edit FILE",
		Short: "send the XML in a file (- for standard input) to the candidate",
		Long: `Send the XML in a file to the candidate configuration. The file holds one or
more top-level nodes (<interfaces xmlns="...">), or a <config> or <data> element
around them. Attributes nc:operation delete, create, replace or remove single
nodes; the prefix nc need not be declared.

All of the file is taken or nothing. With --commit the candidate is committed
afterwards, with whatever else was changed in it; when that is refused the
candidate keeps the edit.`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []string{"xml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if !slices.Contains(operations, operation) {
				return fmt.Errorf("--operation is %q; it can be merge, replace or none", operation)
			}
			if !slices.Contains(targets, target) {
				return fmt.Errorf("--target is %q; it can be candidate or running", target)
			}
			if commit && target != "candidate" {
				return errors.New("--commit commits the candidate; an edit of running is live at once")
			}
			d, err := a.readDocument(args[0])
			if err != nil {
				return err
			}
			config, err := d.config()
			if err != nil {
				return err
			}
			return a.with(func(c *client) error {
				err := c.do("<edit-config><target><" + target + "/></target>" + element("default-operation", operation) + config + "</edit-config>")
				if err != nil || !commit {
					return err
				}
				if err := c.do("<commit/>"); err != nil {
					return hint(err, anyError, `the candidate keeps the edit; correct it, or drop it by "vrouterctl discard"`)
				}
				a.say("committed")
				return nil
			})
		},
	}
	f := c.Flags()
	f.StringVarP(&operation, "operation", "o", "merge", "what happens to nodes without an operation of their own: merge, replace or none")
	f.StringVarP(&target, "target", "t", "candidate", "datastore: candidate or running")
	f.BoolVarP(&commit, "commit", "c", false, "commit afterwards")
	_ = c.RegisterFlagCompletionFunc("operation", cobra.FixedCompletions(operations, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("target", cobra.FixedCompletions(targets, cobra.ShellCompDirectiveNoFileComp))
	return c
}

var (
	operations = []string{"merge", "replace", "none"}
	targets    = []string{"candidate", "running"}
)

func anyError(rpcError) bool { return true }

// say tells in a line what was done.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.out, format+"\n", args...) }

func (a *app) discardCommand() *cobra.Command {
	return &cobra.Command{
		Use: "discard", Short: "drop what was changed in the candidate", Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			return a.with(func(c *client) error { return c.do("<discard-changes/>") })
		},
	}
}

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "validate [DATASTORE]", Short: "check the candidate without committing it", Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeDatastores(1),
		Long: `Check a datastore, the candidate unless another is named: whether it satisfies
the YANG modules, and whether the data plane would take it. Nothing changes.`,
		RunE: func(_ *cobra.Command, args []string) error {
			ds := "candidate"
			if len(args) > 0 {
				ds = args[0]
			}
			if err := checkDatastore(ds); err != nil {
				return err
			}
			return a.with(func(c *client) error {
				if err := c.do("<validate><source><" + ds + "/></source></validate>"); err != nil {
					return err
				}
				a.say("%s is valid", ds)
				return nil
			})
		},
	}
}

func (a *app) copyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "copy FROM TO", Short: "copy a datastore to another (running startup: keep it for the next boot)",
		Args: cobra.ExactArgs(2), ValidArgsFunction: completeDatastores(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkDatastore(args...); err != nil {
				return err
			}
			return a.with(func(c *client) error {
				return c.do("<copy-config><target><" + args[1] + "/></target><source><" + args[0] + "/></source></copy-config>")
			})
		},
	}
}
