// Package oci is the container runtime: an OCI runtime spec goes in, a process in its own namespaces comes out.
package oci
