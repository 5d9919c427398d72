"""Operating the host on AWS that `infra/` describes. Finds everything by name and tags, and keeps no state of its own."""
