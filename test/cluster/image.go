// Container images without a container engine or a registry: an archive as `docker save` writes it, which
// containerd imports.

package cluster

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
)

// Image describes the contents of a container image.
type Image struct {
	// Name is the reference that manifests use, with registry and tag.
	Name string
	// Aliases are further names of it.
	Aliases []string
	// Entrypoint, Env and User are the image's defaults for a container; User "" means root.
	Entrypoint, Env []string
	User            string
	// Fill writes the files of the image's only layer.
	Fill func(*tar.Writer) error
}

// Program returns an Image.Fill for one static program, at /NAME.
func Program(name, binary string) func(*tar.Writer) error {
	return func(layer *tar.Writer) error {
		file, err := os.Open(binary)
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		if err := layer.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: info.Size()}); err != nil {
			return err
		}
		_, err = io.Copy(layer, file)
		return err
	}
}

// Write writes the image as an archive.
func (i Image) Write(path string) error {
	layer, err := os.Create(path + ".layer")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	digest := sha256.New()
	files := tar.NewWriter(io.MultiWriter(layer, digest))
	if err := errors.Join(i.Fill(files), files.Close()); err != nil {
		return fmt.Errorf("image %s: %w", i.Name, err)
	}
	config, err := json.Marshal(object{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": object{"Entrypoint": i.Entrypoint, "Env": i.Env, "User": i.User},
		"rootfs": object{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", digest.Sum(nil))}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]object{{"Config": "config.json", "RepoTags": append([]string{i.Name}, i.Aliases...), "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	return writeArchive(path, layer, config, manifest)
}

// writeArchive puts the parts of an image into one file.
func writeArchive(path string, layer *os.File, config, manifest []byte) error {
	size, err := layer.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(out)
	for _, part := range []struct {
		name string
		text []byte
	}{{"manifest.json", manifest}, {"config.json", config}} {
		err = errors.Join(err, archive.WriteHeader(&tar.Header{Name: part.name, Mode: 0o644, Size: int64(len(part.text))}))
		_, writeErr := archive.Write(part.text)
		err = errors.Join(err, writeErr)
	}
	err = errors.Join(err, archive.WriteHeader(&tar.Header{Name: "layer.tar", Mode: 0o644, Size: size}))
	_, copyErr := io.Copy(archive, layer)
	return errors.Join(err, copyErr, archive.Close(), out.Close())
}
