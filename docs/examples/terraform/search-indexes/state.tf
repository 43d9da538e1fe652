# Beside this file, `lkmongo db indexes --output terraform > main.tf` writes the search indexes.

terraform {
  backend "s3" {
    key          = "lkmongo/search-indexes.tfstate"
    use_lockfile = true
  }
}
