#!/bin/sh
# At the first start of an empty volume: a database and a user for Prefect, and for MLflow. Neither can enter the other's.
set -eu
for name in prefect mlflow; do
  # The password goes through standard input, where no list of processes shows it.
  psql --quiet --set ON_ERROR_STOP=1 --username postgres --dbname postgres <<SQL
CREATE USER $name PASSWORD '$(cat "/run/secrets/$name-database-password")';
CREATE DATABASE $name OWNER $name;
REVOKE CONNECT ON DATABASE $name FROM PUBLIC;
SQL
done
