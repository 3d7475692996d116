// One cluster for several test binaries: the process that starts it writes a description into its folder, and
// other processes join it by that description.

package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// JoinEnv names the environment variable that holds the folder of a running cluster (Cluster.Dir). `cluster
// up -- COMMAND` sets it for the command.
const JoinEnv = "MIRRORGATE_CLUSTER"

// description is the part of a Cluster that another process needs.
type description struct {
	Kubeconfig, KubectlPath, URL string
	CA                           []byte
	Tokens                       map[string]string
}

const descriptionFile = "cluster.json"

// describe writes the description that Join reads.
func (c *Cluster) describe() error {
	text, err := json.Marshal(description{c.Kubeconfig, c.KubectlPath, c.URL, c.pki.caPEM, c.tokens})
	if err != nil {
		return err
	}
	return os.WriteFile(c.path(descriptionFile), text, 0o600)
}

// Join returns the running cluster of another process, which alone can end it: Stop does nothing here, and
// the methods that start or end components fail.
func Join(dir string) (*Cluster, error) {
	text, err := os.ReadFile(filepath.Join(dir, descriptionFile))
	if err != nil {
		return nil, fmt.Errorf("join the cluster of $%s: %w", JoinEnv, err)
	}
	var d description
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("join the cluster of $%s: %w", JoinEnv, err)
	}
	c := &Cluster{
		Dir: dir, Kubeconfig: d.Kubeconfig, KubectlPath: d.KubectlPath, URL: d.URL,
		pki: &pki{caPEM: d.CA}, tokens: d.Tokens, api: newClient(d.URL, d.Tokens[admin], d.CA),
		running: map[string]*process{}, stopping: true,
	}
	c.stopOnce.Do(func() {})
	return c, nil
}
