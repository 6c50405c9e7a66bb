package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completionPatience bounds how long a press of the tab key may take.
const completionPatience = time.Second

// words asks the vRouter for words to complete. It is silent: what goes wrong,
// takes too long or would need a password gives no words.
func (a *app) words(get func(*client) ([]string, error)) []string {
	quiet := *a
	quiet.ask, quiet.acceptNew = nil, false
	quiet.timeout = completionPatience
	found := make(chan []string, 1)
	go func() {
		var l []string
		_ = quiet.with(func(c *client) (err error) {
			c.warn = func(string) {}
			l, err = get(c)
			return err
		})
		found <- l
	}()
	select {
	case l := <-found:
		return l
	case <-time.After(completionPatience):
		return nil
	}
}

// completeNames completes the names of a list's entries.
func (a *app) completeNames(l *list) cobra.CompletionFunc {
	if l.from != nil {
		l = l.from
	}
	return func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		return matching(a.words(func(c *client) ([]string, error) {
			root, err := c.tree(getConfig("running", subtree(l.keys())))
			if err != nil {
				return nil, err
			}
			return l.names(root), nil
		}), args, begun)
	}
}

// completeVersions completes how many versions to go back.
func (a *app) completeVersions(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	l, d := matching(a.words(func(c *client) (l []string, err error) {
		root, err := c.tree("<get>" + subtree(`<commits xmlns="`+nsCommit+`"/>`) + "</get>")
		if err != nil {
			return nil, err
		}
		for i, v := range versions(root) {
			if i > 0 {
				l = append(l, cobra.CompletionWithDesc(fmt.Sprint(i), strings.TrimSpace(moment(val(v, "time"))+" "+val(v, "kind")+" "+val(v, "user"))))
			}
		}
		return l, nil
	}), nil, begun)
	return l, d | cobra.ShellCompDirectiveKeepOrder
}

// completeDatastores completes up to n datastores, each once.
func completeDatastores(n int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return matching(datastores, args, begun)
	}
}

// matching keeps the words that go on what was begun and are not there yet.
func matching(words, there []string, begun string) (l []string, d cobra.ShellCompDirective) {
	for _, w := range words {
		if strings.HasPrefix(w, begun) && !slices.Contains(there, w) {
			l = append(l, w)
		}
	}
	return l, cobra.ShellCompDirectiveNoFileComp
}
